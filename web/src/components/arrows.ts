/** Arrow keys go to the nearest neighbour on the screen, whatever the layout; focus stays visible. */
type Direction = 'ArrowLeft' | 'ArrowRight' | 'ArrowUp' | 'ArrowDown'

export function moveFocus(event: KeyboardEvent, selector: string): void {
  if (!event.key.startsWith('Arrow')) return
  const from = (event.target as Element).closest(selector)
  if (from === null) return
  const here = from.getBoundingClientRect()
  const x = here.left + here.width / 2
  const y = here.top + here.height / 2
  let best: HTMLElement | null = null
  let bestDistance = Infinity
  for (const one of (event.currentTarget as Element).querySelectorAll<HTMLElement>(selector)) {
    if (one === from) continue
    const there = one.getBoundingClientRect()
    const distance = cost(event.key as Direction, there.left + there.width / 2 - x, there.top + there.height / 2 - y)
    if (distance < bestDistance) {
      best = one
      bestDistance = distance
    }
  }
  if (best !== null) {
    event.preventDefault()
    best.focus()
    best.scrollIntoView({ block: 'nearest' })
  }
}

/** Distance in the wanted direction; what lies aside counts double, what lies behind not at all. */
function cost(direction: Direction, dx: number, dy: number): number {
  const [along, aside] =
    direction === 'ArrowLeft' ? [-dx, dy] : direction === 'ArrowRight' ? [dx, dy] : direction === 'ArrowUp' ? [-dy, dx] : [dy, dx]
  return along <= 4 ? Infinity : along + 2 * Math.abs(aside)
}
