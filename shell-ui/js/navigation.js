// Tells the tool that frames this page whether somebody is signed in here. Only the origins of the settings hear it.
const state = document.getElementById("navigation");
for (const origin of state.dataset.origins.split(" ")) {
  if (parent !== window) parent.postMessage({ loggedIn: state.dataset.signedIn === "true" }, origin);
}
