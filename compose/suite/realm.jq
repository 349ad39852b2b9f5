# Makes of the demo's realm (keycloak/realm-chancery.json) that of an installation: its own addresses and secrets, and nobody in it.
def secret($name): if env[$name] then env[$name] else error("\($name) is missing") end;
def origin($name): "https://" + secret($name);

.groups |= map(.subGroups = [])
| .users |= map(select(.serviceAccountClientId == "chancery-sync"))
| .clients |= map(select(.clientId | IN("chancery-shell", "chancery-api", "chancery-sync", "chancery-matrix")))
| .clients |= map(
    if .clientId == "chancery-shell" then
      .secret = secret("CHANCERY_SHELL_SECRET")
      | .baseUrl = origin("CHANCERY_HOST") + "/"
      | .redirectUris = [origin("CHANCERY_HOST") + "/auth/callback"]
      | .attributes["backchannel.logout.url"] = origin("CHANCERY_HOST") + "/auth/backchannel-logout"
      | .attributes["post.logout.redirect.uris"] = origin("CHANCERY_HOST") + "/auth/signed-out"
    elif .clientId == "chancery-sync" then
      .secret = secret("CHANCERY_SYNC_SECRET")
    elif .clientId == "chancery-matrix" then
      .secret = secret("SYNAPSE_OIDC_SECRET")
      | .redirectUris = [origin("MATRIX_HOST") + "/_synapse/client/oidc/callback"]
      | .attributes["backchannel.logout.url"] = origin("MATRIX_HOST") + "/_synapse/client/oidc/backchannel_logout"
    else . end
  )
| .sslRequired = "external"
