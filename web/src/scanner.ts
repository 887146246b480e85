/** Scanners type: a burst of keys that ends with Enter, recognised anywhere outside a field. */
import { onBeforeUnmount, onMounted } from 'vue'

/** Nobody types eight characters with 35 ms between them; a scanner does. */
const BURST_GAP_MS = 35
const BURST_LENGTH_MIN = 5

export function inField(event: KeyboardEvent): boolean {
  return (event.target as HTMLElement).closest('input, textarea, select, [contenteditable]') !== null
}

/** Who waits for a scan; a dialog over a page comes last. */
const readers: ((text: string) => void)[] = []

/** Call `read` with what was scanned, for as long as the component is there and none that came after it waits for a scan. */
export function useScanner(read: (text: string) => void): void {
  let burst = ''
  let lastKeyAt = 0
  function onKey(event: KeyboardEvent): void {
    if (inField(event)) return
    const gap = event.timeStamp - lastKeyAt
    lastKeyAt = event.timeStamp
    if (event.key === 'Enter') {
      if (burst.length >= BURST_LENGTH_MIN && gap < BURST_GAP_MS * 3 && readers.at(-1) === read) {
        event.preventDefault()
        read(burst)
      }
      burst = ''
    } else if (event.key.length === 1) {
      burst = gap < BURST_GAP_MS ? burst + event.key : event.key
    }
  }
  onMounted(() => {
    readers.push(read)
    addEventListener('keydown', onKey)
  })
  onBeforeUnmount(() => {
    readers.splice(readers.indexOf(read), 1)
    removeEventListener('keydown', onKey)
  })
}
