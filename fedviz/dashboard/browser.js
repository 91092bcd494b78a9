// What a browser has to do itself.

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

function keepHistory() {
  // The component is drawn on every page; the window has one history.
  if (!window.navigation || window.hasEntriesOfItsOwn) return
  window.hasEntriesOfItsOwn = true
  install(window.navigation)
}

// Light and dark. When the theme changes, by hand or at dusk, Streamlit paints its own parts anew
// and does not run the page, which has the charts' colours. A change of the colour is a transition
// here, whatever it was that changed it.
function followTheme(probe, tell) {
  probe.ontransitionend = () => tell("theme", getComputedStyle(probe).backgroundColor)
}

export default function ({ parentElement, setTriggerValue }) {
  keepHistory()
  followTheme(parentElement.querySelector(".theme"), setTriggerValue)
}
