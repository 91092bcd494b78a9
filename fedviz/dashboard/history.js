// Back and forward. Streamlit replaces the address when a selection changes, so that there is
// nothing to go back to, and does not rerun the page when the address changes under it. Here each
// address gets an entry of its own, and going to another loads what it names.

export default function () {
  const navigation = window.navigation
  if (!navigation) return undefined
  let current = window.location.href
  const onChange = ({ navigationType }) => {
    const address = window.location.href
    if (address === current) return
    const before = current
    current = address
    if (navigationType !== "replace") return
    window.history.replaceState({}, "", before)
    window.history.pushState({}, "", address)
  }
  const onPop = () => window.location.reload()
  navigation.addEventListener("currententrychange", onChange)
  window.addEventListener("popstate", onPop)
  return () => {
    navigation.removeEventListener("currententrychange", onChange)
    window.removeEventListener("popstate", onPop)
  }
}
