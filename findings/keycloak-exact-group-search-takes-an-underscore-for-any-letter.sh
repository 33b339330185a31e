#!/usr/bin/env bash
# Keycloak 26.7.4 takes an underscore for any letter when it searches a group's children exactly.
# GET /groups/{id}/children?search=a_b&exact=true also answers axb, and "%" stands for any
# number of letters, as in SQL's LIKE. The wrong group may come first.
# At the top level, and in an exact search for users, the same letters mean themselves.
# Whoever takes the first answer puts people into the wrong group; /group-by-path/ finds
# the right one, as does comparing the names again.
#
# Seen: children by a_b ["a%b","a_b","axb"] | by a%b ["a%b","a_b","axb","axxb"]
#       top level by a_b ["a_b"]

set -euo pipefail

readonly VERSION=26.7.4

sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
echo
for program in java mvn unzip curl jq; do
    command -v "$program" >/dev/null || { echo "not run: $program is missing" >&2; exit 2; }
done

work=$(mktemp -d)
server=
clean_up() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

mvn -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
    -Dartifact="org.keycloak:keycloak-quarkus-dist:$VERSION:zip" -DoutputDirectory="$work" >"$work/maven.log" 2>&1 \
    || { cat "$work/maven.log" >&2; echo "not run: Maven did not get Keycloak $VERSION" >&2; exit 2; }
unzip -q "$work/keycloak-quarkus-dist-$VERSION.zip" -d "$work"

# A port on which nobody answers, below those that systems give out by themselves.
while port=$((20000 + RANDOM % 12000)) && (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
base=http://127.0.0.1:$port

password=$(cat /proc/sys/kernel/random/uuid)
KC_BOOTSTRAP_ADMIN_USERNAME=admin KC_BOOTSTRAP_ADMIN_PASSWORD=$password \
    "$work/keycloak-$VERSION/bin/kc.sh" start-dev --http-host=127.0.0.1 --http-port="$port" >"$work/keycloak.log" 2>&1 &
server=$!
for ((second = 0; second < 300; second++)); do
    curl -sf -o /dev/null --max-time 5 "$base/realms/master" && break
    kill -0 "$server" 2>/dev/null || break
    sleep 1
done
curl -sf -o /dev/null --max-time 5 "$base/realms/master" \
    || { tail -n 20 "$work/keycloak.log" >&2; echo "not run: Keycloak did not start" >&2; exit 2; }

# body METHOD PATH [JSON]: the answer; status METHOD PATH [JSON]: its status alone. $token says who asks.
body() {
    curl -sS --max-time 60 -X "$1" "$base/admin/realms$2" -H "Authorization: Bearer $token" \
        -H 'Content-Type: application/json' ${3:+-d "$3"}
}
status() {
    curl -sS --max-time 60 -X "$1" "$base/admin/realms$2" -H "Authorization: Bearer $token" \
        -H 'Content-Type: application/json' ${3:+-d "$3"} -o /dev/null -w '%{http_code}'
}
administrator() {
    curl -sS --max-time 60 "$base/realms/master/protocol/openid-connect/token" -d grant_type=password \
        -d client_id=admin-cli -d username=admin -d "password=$password" | jq -er .access_token
}
# same WHAT SEEN_THEN SEEN_NOW: shows what is seen, and ends the script where it is something else by now.
same() {
    printf '%-64s %s\n' "$1" "$3"
    [ "$2" = "$3" ] || { echo "CHANGED: $1: was $2, is $3" >&2; exit 1; }
}
# done_with STATUS_WANTED STATUS: for what prepares the stage.
done_with() {
    [ "$1" = "$2" ] || { echo "not run: a preparing call answered $2 instead of $1" >&2; exit 2; }
}

token=$(administrator)
# The administrator's tokens live for a minute; this takes longer on a slow machine.
done_with 204 "$(status PUT /master '{"accessTokenLifespan":3600}')"
token=$(administrator)

done_with 201 "$(status POST '' '{"realm":"exactly","enabled":true}')"
for name in parent a_b axb axxb a%b; do
    done_with 201 "$(status POST /exactly/groups "{\"name\":\"$name\"}")"
done
parent=$(body GET '/exactly/groups?search=parent&exact=true' | jq -er '.[0].id')
top_level() {
    body GET "/exactly/groups?search=$1&exact=true" | jq -c '[.[].name]'
}
children() {
    body GET "/exactly/groups/$parent/children?search=$1&exact=true" | jq -c '[.[].name]'
}

echo 'Groups at the top level: a_b axb axxb a%b'
same '  exactly a_b' '["a_b"]' "$(top_level a_b)"
same '  exactly a%b' '["a%b"]' "$(top_level a%25b)"

for name in a_b axb axxb a%b other; do
    done_with 201 "$(status POST "/exactly/groups/$parent/children" "{\"name\":\"$name\"}")"
done
echo 'Children of /parent: a_b axb axxb a%b other'
same '  exactly axb' '["axb"]' "$(children axb)"
same '  exactly a_b' '["a%b","a_b","axb"]' "$(children a_b)"
same '  exactly a%b' '["a%b","a_b","axb","axxb"]' "$(children a%25b)"
same '  exactly a_b, at most one' '["a%b"]' \
    "$(body GET "/exactly/groups/$parent/children?search=a_b&exact=true&max=1" | jq -c '[.[].name]')"
same '  group-by-path /parent/a_b' a_b "$(body GET /exactly/group-by-path/parent/a_b | jq -r .name)"

for name in u_1 ux1; do
    done_with 201 "$(status POST /exactly/users "{\"username\":\"$name\"}")"
done
echo 'Users: u_1 ux1'
same '  exactly u_1' '["u_1"]' "$(body GET '/exactly/users?username=u_1&exact=true' | jq -c '[.[].username]')"
echo "As described, on Keycloak $VERSION."
