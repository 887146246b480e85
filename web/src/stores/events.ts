/** Server-sent events out of pieces of text, as the HTML standard reads them. */
export interface Event {
  event: string
  data: string
  id: string | null
}

export class Events {
  private rest = ''

  /** Take the next piece and return the events that are complete now; comments are heartbeats and say nothing. */
  feed(piece: string): Event[] {
    this.rest += piece
    const found: Event[] = []
    for (;;) {
      const end = /\r\n\r\n|\n\n|\r\r/.exec(this.rest)
      if (end === null) return found
      const event = parsed(this.rest.slice(0, end.index))
      this.rest = this.rest.slice(end.index + end[0].length)
      if (event !== null) found.push(event)
    }
  }
}

function parsed(block: string): Event | null {
  let event = 'message'
  let id: string | null = null
  const data: string[] = []
  for (const line of block.split(/\r\n|\n|\r/)) {
    if (line === '' || line.startsWith(':')) continue
    const colon = line.indexOf(':')
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (field === 'event') event = value
    else if (field === 'data') data.push(value)
    else if (field === 'id') id = value
  }
  return data.length === 0 ? null : { event, data: data.join('\n'), id }
}
