#!/usr/bin/env bash
# Keycloak 26.7.4 shows a username that its search does not find.
# The user "ada" has the address ada@example.org, and the realm then takes the address as
# the username (registrationEmailAsUsername). From now on reading and listing show the
# address as "username". Searching for exactly that name finds nobody, creating that user
# is refused (409); the stored name "ada", shown nowhere, does find her.
# The next PUT, even of {}, really renames the account. Resetting her password does not,
# ending her sessions does not.
#
# Seen: read ada@example.org | found by it [] | found by "ada" ["ada@example.org"]
#       after PUT {}: found by it ["ada@example.org"] | found by "ada" []

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

id_of() {
    body GET "/shown/users?email=$1@example.org&exact=true" | jq -er '.[0].id'
}
found_by() {
    body GET "/shown/users?username=$1&exact=true" | jq -c '[.[].username]'
}
still_unnamed() {
    same "  found by $1@example.org, exactly" '[]' "$(found_by "$1@example.org")"
    same "  found by $1, exactly" "[\"$1@example.org\"]" "$(found_by "$1")"
}
renamed() {
    same "  found by $1@example.org, exactly" "[\"$1@example.org\"]" "$(found_by "$1@example.org")"
    same "  found by $1, exactly" '[]' "$(found_by "$1")"
}

done_with 201 "$(status POST '' '{"realm":"shown","enabled":true}')"
for name in ada ben; do
    done_with 201 "$(status POST /shown/users "{\"username\":\"$name\",\"email\":\"$name@example.org\",
        \"firstName\":\"First\",\"lastName\":\"Last\",\"enabled\":true}")"
done
ada=$(id_of ada) ben=$(id_of ben)
same 'username of ada, read, before' ada "$(body GET "/shown/users/$ada" | jq -r .username)"
done_with 204 "$(status PUT /shown '{"registrationEmailAsUsername":true}')"

echo 'The realm now takes the address as the username:'
same '  username of ada, read' ada@example.org "$(body GET "/shown/users/$ada" | jq -r .username)"
same '  usernames, listed' '["ada@example.org","ben@example.org"]' "$(body GET /shown/users | jq -c '[.[].username] | sort')"
still_unnamed ada
same '  counted by ada@example.org' 0 "$(body GET "/shown/users/count?username=ada@example.org")"
same '  creating ada@example.org' 409 "$(status POST /shown/users \
    '{"username":"ada@example.org","email":"ada@example.org","enabled":true}')"

same 'PUT reset-password of ada' 204 "$(status PUT "/shown/users/$ada/reset-password" '{"type":"password","value":"correct horse"}')"
still_unnamed ada
same 'POST logout of ada' 204 "$(status POST "/shown/users/$ada/logout")"
still_unnamed ada
same 'PUT {} of ada' 204 "$(status PUT "/shown/users/$ada" '{}')"
renamed ada
still_unnamed ben
same 'PUT {"lastName": ...} of ben' 204 "$(status PUT "/shown/users/$ben" '{"lastName":"Other"}')"
renamed ben

done_with 204 "$(status PUT /shown '{"registrationEmailAsUsername":false}')"
same 'username of ada, read, with the setting off again' ada@example.org "$(body GET "/shown/users/$ada" | jq -r .username)"
echo "As described, on Keycloak $VERSION."
