/**
 * The live board: one picture of all beds, then every change as it happens.
 *
 * The stream is read with fetch, because it needs the bearer header. After a break it goes on behind the last change it
 * saw; when that is too long ago the door says `reset` and the picture is loaded anew. `age` never pretends: it counts from
 * the last word of the door, whatever else works.
 */
import { defineStore } from 'pinia'
import { computed, ref, shallowRef } from 'vue'
import type { Bed, BedsChanged, Board, Ward } from '@/api/pool'
import { get, pause, send } from '@/api/http'
import { type Problem, asProblem, problemOf } from '@/api/problem'
import { Events } from '@/stores/events'
import { now } from '@/stores/now'

/** The door ticks at least every 2 s; this long without a word means that the line is dead. */
const SILENCE_MS_MAX = 8_000
const RETRY_MS = [500, 1_000, 2_000, 4_000, 8_000]
export const AMBER_SECONDS = 10
export const RED_SECONDS = 60

export const useBoard = defineStore('board', () => {
  const wards = shallowRef<Ward[]>([])
  const beds = shallowRef<Map<number, Bed>>(new Map())
  const waiting = shallowRef<Board['waiting']>([])
  const heardAt = ref<number | null>(null)
  const asOf = ref<string | null>(null)
  const problem = shallowRef<Problem | null>(null)
  const changedAt = shallowRef<Map<number, number>>(new Map())
  let cursor: string | null = null
  let running: AbortController | null = null
  let watchers = 0

  const isLoaded = computed(() => wards.value.length > 0 || beds.value.size > 0)
  const age = computed(() => (heardAt.value === null ? null : Math.max(0, (now.value - heardAt.value) / 1000)))
  const freshness = computed<'none' | 'live' | 'amber' | 'red'>(() => {
    if (age.value === null) return 'none'
    if (age.value >= RED_SECONDS) return 'red'
    return age.value >= AMBER_SECONDS ? 'amber' : 'live'
  })
  const bedsByWard = computed(() => {
    const found = new Map<string, Bed[]>()
    for (const bed of beds.value.values()) {
      const inWard = found.get(bed.ward)
      if (inWard) inWard.push(bed)
      else found.set(bed.ward, [bed])
    }
    return found
  })
  const wardsByCode = computed(() => new Map(wards.value.map((ward) => [ward.ward, ward])))

  function heard(at: string | null): void {
    // The door may answer while its database does not: only a newer picture counts as a word.
    if (at === asOf.value) return
    heardAt.value = Date.now()
    asOf.value = at
  }

  function takeBoard(board: Board): void {
    wards.value = board.wards
    beds.value = new Map(board.beds.map((bed) => [bed.bed_id, bed]))
    waiting.value = board.waiting
    cursor = board.cursor
    heard(board.as_of)
  }

  /** Put changed beds in, never an older version over a newer one. */
  function takeBeds(changed: BedsChanged): void {
    const next = new Map(beds.value)
    const flashes = new Map(changedAt.value)
    for (const bed of changed.beds) {
      const known = next.get(bed.bed_id)
      if (known !== undefined && known.version > bed.version) continue
      next.set(bed.bed_id, bed)
      flashes.set(bed.bed_id, Date.now())
    }
    beds.value = next
    changedAt.value = flashes
    cursor = changed.cursor
    heard(changed.as_of)
  }

  async function load(signal?: AbortSignal): Promise<void> {
    takeBoard(await get<Board>('/api/beds/board', signal))
  }

  async function follow(signal: AbortSignal): Promise<'reset' | 'ended'> {
    const silence = new AbortController()
    const stop = (): void => silence.abort()
    signal.addEventListener('abort', stop, { once: true })
    let timer = setTimeout(stop, SILENCE_MS_MAX)
    try {
      const path = `/api/beds/board/stream?after=${encodeURIComponent(cursor ?? '')}`
      const response = await send(path, { headers: { Accept: 'text/event-stream' }, signal: silence.signal }, null)
      if (!response.ok || response.body === null) throw await problemOf(response)
      problem.value = null
      const events = new Events()
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
      for (;;) {
        const { done, value } = await reader.read()
        if (done) return 'ended'
        clearTimeout(timer)
        timer = setTimeout(stop, SILENCE_MS_MAX)
        for (const { event, data } of events.feed(value)) {
          if (event === 'reset') {
            silence.abort()
            return 'reset'
          }
          if (event === 'wards') {
            const told = JSON.parse(data) as Pick<Board, 'wards' | 'waiting'>
            wards.value = told.wards
            waiting.value = told.waiting
          }
          if (event === 'beds') takeBeds(JSON.parse(data) as BedsChanged)
          if (event === 'tick') {
            const tick = JSON.parse(data) as { cursor: string; as_of: string }
            cursor = tick.cursor
            heard(tick.as_of)
          }
        }
      }
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', stop)
    }
  }

  async function run(signal: AbortSignal): Promise<void> {
    let failures = 0
    let needsPicture = cursor === null
    while (!signal.aborted) {
      try {
        const heardBefore = heardAt.value
        if (needsPicture) await load(signal)
        needsPicture = false
        needsPicture = (await follow(signal)) === 'reset'
        if (heardAt.value !== heardBefore) failures = 0
      } catch (error) {
        if (signal.aborted) return
        problem.value = asProblem(error)
        // A door that has no stream (or a proxy that breaks it) still has pictures: take one at every turn.
        if (problem.value.status === 400 || problem.value.status === 404 || problem.value.status === 405) needsPicture = true
        if (problem.value.status === 401 || problem.value.status === 403) return
      }
      await pause(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] ?? 8_000)
      failures += 1
    }
  }

  /** Keep the board live while somebody looks; call the answer when they no longer do. */
  function watch(): () => void {
    watchers += 1
    if (running === null) {
      running = new AbortController()
      const mine = running
      void run(mine.signal).finally(() => {
        if (running === mine) running = null
      })
    }
    let isOver = false
    return () => {
      if (isOver) return
      isOver = true
      watchers -= 1
      // The next page usually wants the same board, so the line is dropped only when none did for a while.
      setTimeout(() => {
        if (watchers === 0) {
          running?.abort()
          running = null
        }
      }, 5_000)
    }
  }

  /** Forget everything: somebody logged out. */
  function clear(): void {
    running?.abort()
    running = null
    wards.value = []
    beds.value = new Map()
    waiting.value = []
    cursor = null
    heardAt.value = null
    asOf.value = null
    problem.value = null
  }

  return {
    wards,
    beds,
    waiting,
    asOf,
    age,
    freshness,
    problem,
    changedAt,
    isLoaded,
    bedsByWard,
    wardsByCode,
    takeBoard,
    takeBeds,
    load,
    watch,
    clear,
  }
})
