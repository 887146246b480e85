import { expect, it } from 'vitest'
import { Events } from '@/stores/events'

it('puts events together however the network cuts them', () => {
  const text = 'id: 7\nevent: beds\ndata: {"cursor":7}\n\n: heartbeat\n\nevent: tick\r\ndata: {}\r\n\r\n'
  for (let size = 1; size <= text.length; size += 1) {
    const events = new Events()
    const found = []
    for (let at = 0; at < text.length; at += size) found.push(...events.feed(text.slice(at, at + size)))
    expect(found).toEqual([
      { event: 'beds', data: '{"cursor":7}', id: '7' },
      { event: 'tick', data: '{}', id: null },
    ])
  }
})
