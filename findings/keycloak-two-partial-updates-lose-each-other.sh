#!/usr/bin/env bash
# Keycloak 26.7.4: two partial updates of one user, at once, lose each other.
# PUT /users/{id} changes what its body names and leaves the rest. Of two that name different
# fields, {"firstName": "After"} and {"enabled": false}, sent at the same time, both are
# answered 204 and neither 409, and in many rounds one of them has not happened: it looks as
# if the other wrote back what it had read before. A user who was disabled may be enabled
# still. One after the other, they both stay. So keep the changes of one user in one line.
#
# Seen, 40 rounds at once: 28 lost one (firstName 16, enabled 12); one after the other: 0

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

done_with 201 "$(status POST '' '{"realm":"partial","enabled":true}')"
done_with 201 "$(status POST /partial/users \
    '{"username":"ada","email":"ada@example.org","firstName":"Before","lastName":"Last","enabled":true}')"
user=/partial/users/$(body GET '/partial/users?username=ada&exact=true' | jq -er '.[0].id')
before() {
    done_with 204 "$(status PUT "$user" '{"firstName":"Before","enabled":true}')"
}
now() {
    body GET "$user" | jq -c '[.firstName, .enabled]'
}

kept=0
for ((round = 1; round <= 40; round++)); do
    before
    done_with 204 "$(status PUT "$user" '{"firstName":"After"}')"
    done_with 204 "$(status PUT "$user" '{"enabled":false}')"
    [ "$(now)" != '["After",false]' ] || kept=$((kept + 1))
done
same 'one after the other, 40 rounds, both kept' 40 "$kept"

both=0 name_lost=0 enabled_lost=0 refused=0
for ((round = 1; round <= 200; round++)); do
    before
    status PUT "$user" '{"firstName":"After"}' >"$work/first" &
    first=$!
    status PUT "$user" '{"enabled":false}' >"$work/second" &
    second=$!
    wait "$first"
    wait "$second"
    if [ "$(cat "$work/first") $(cat "$work/second")" != '204 204' ]; then
        refused=$((refused + 1))
    else
        case $(now) in
            '["After",false]') both=$((both + 1)) ;;
            '["Before",false]') name_lost=$((name_lost + 1)) ;;
            '["After",true]') enabled_lost=$((enabled_lost + 1)) ;;
            *) echo "CHANGED: neither update is there, though both were answered 204" >&2; exit 1 ;;
        esac
    fi
    # How many depends on the machine: 40 rounds will do, unless none of them lost anything.
    [ "$round" -lt 40 ] || [ $((name_lost + enabled_lost)) -eq 0 ] || break
done
[ "$round" -le 200 ] || round=200
echo "at once, $round rounds: both kept $both, firstName lost $name_lost, enabled lost $enabled_lost, one refused $refused"
[ $((name_lost + enabled_lost)) -gt 0 ] \
    || { echo "CHANGED: no update was lost in $round rounds of two at once" >&2; exit 1; }
same 'rounds in which an update was refused' 0 "$refused"
echo "As described, on Keycloak $VERSION."
