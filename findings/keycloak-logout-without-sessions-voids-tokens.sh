#!/usr/bin/env bash
# Keycloak 26.7.4: a logout that ends no session makes every token of the account void.
# A service account gets its tokens by client_credentials and has no session. POST
# /users/{id of the service account}/logout answers 204 and has nothing to end. Yet from
# then on each of its older tokens is refused (401), the one that made the call and those
# of other processes, minutes before they run out; introspection calls them inactive.
# A fresh token works. The call has set "notBefore" of the service account's user.
#
# Seen: sessions [] | logout 204 | same token 401 | another process' token 401 | fresh 200

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

done_with 201 "$(status POST '' '{"realm":"logout","enabled":true}')"
for client in deliverer bystander; do
    done_with 201 "$(status POST /logout/clients "{\"clientId\":\"$client\",\"secret\":\"of $client\",
        \"serviceAccountsEnabled\":true,\"publicClient\":false,\"standardFlowEnabled\":false}")"
done
client_id() {
    body GET "/logout/clients?clientId=$1" | jq -er '.[0].id'
}
account_of() {
    body GET "/logout/clients/$(client_id "$1")/service-account-user" | jq -er .id
}
management=$(client_id realm-management)
role=$(body GET "/logout/clients/$management/roles/manage-users" | jq -c '[.]')
for client in deliverer bystander; do
    done_with 204 "$(status POST "/logout/users/$(account_of "$client")/role-mappings/clients/$management" "$role")"
done
account=$(account_of deliverer)
token_of() {
    curl -sS --max-time 60 "$base/realms/logout/protocol/openid-connect/token" -d grant_type=client_credentials \
        -d "client_id=$1" --data-urlencode "client_secret=of $1" | jq -er .access_token
}
reads() {
    token=$1 status GET '/logout/users?max=1'
}
active() {
    curl -sS --max-time 60 "$base/realms/logout/protocol/openid-connect/token/introspect" -u 'deliverer:of deliverer' \
        -d "token=$1" | jq -r .active
}

calling=$(token_of deliverer) elsewhere=$(token_of deliverer) bystander=$(token_of bystander)
same 'sessions of the service account' '[]' "$(body GET "/logout/users/$account/sessions")"
same 'notBefore of the service account' 0 "$(body GET "/logout/users/$account" | jq -r '.notBefore // 0')"
# Tokens carry whole seconds: one that is as young as the logout would live on.
sleep 2
same 'the token reads users' 200 "$(reads "$calling")"
same 'another process'\'' token reads users' 200 "$(reads "$elsewhere")"
same 'the token logs its own service account out' 204 "$(token=$calling status POST "/logout/users/$account/logout")"
same 'the token reads users' 401 "$(reads "$calling")"
same 'another process'\'' token reads users' 401 "$(reads "$elsewhere")"
same 'the token is active, by introspection' false "$(active "$calling")"
same 'the other service account'\''s token reads users' 200 "$(reads "$bystander")"
same 'a fresh token reads users' 200 "$(reads "$(token_of deliverer)")"
set_now=$(body GET "/logout/users/$account" | jq '.notBefore > 0')
same 'notBefore of the service account is set' true "$set_now"
echo "As described, on Keycloak $VERSION."
