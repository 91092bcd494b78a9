// Back and forward. Streamlit replaces the address when a control changes, so that there is nothing
// to go back to, and does not rerun the page when the address changes under it. Here each address
// gets an entry of its own, and going to another loads what it names.

function install(navigation) {
  let current = window.location.href
  let isOurs = false
  navigation.addEventListener("currententrychange", ({ navigationType }) => {
    const [before, address] = [current, window.location.href]
    if (isOurs || address === before) return
    current = address
    if (navigationType !== "replace") return
    isOurs = true
    window.history.replaceState({}, "", before)
    window.history.pushState({}, "", address)
    isOurs = false
  })
  window.addEventListener("popstate", () => window.location.reload())
}

export default function () {
  // The component is drawn on every page; the window has one history.
  if (!window.navigation || window.hasEntriesOfItsOwn) return
  window.hasEntriesOfItsOwn = true
  install(window.navigation)
}
