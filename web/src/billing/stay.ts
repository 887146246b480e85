/**
 * One stay at the bedside: how its bill stands on the server, asked about once a second, and acts that survive anything.
 *
 * The state is never guessed here. An act is sent under one Idempotency-Key until a door has decided; while nobody answers
 * it is kept and goes on by itself, and nothing else can be pressed meanwhile.
 */
import { computed, onBeforeUnmount, onMounted, ref, shallowRef, watch } from 'vue'
import type { Account, Bill, Encounter, Entry } from '@/api/billing'
import { get, post } from '@/api/http'
import type { Patient } from '@/api/pool'
import { type Problem, asProblem } from '@/api/problem'
import { live, rests } from '@/billing/bill'
import { type Act, keep, read } from '@/billing/unfinished'
import { useNames } from '@/stores/names'
import { useSession } from '@/stores/session'
import { patientOf } from '@/stores/stays'

const LOOK_MS = 1_000
const LOOK_AT_REST_MS = 5_000
const TRY_AGAIN_MS = 2_000
const PAGE = 200
/** No answer, or one that only a machine in between gave: whether it was done is not known, so it goes on by itself. */
const GOES_ON = new Set([0, 429, 502, 503, 504])

export function useStay(encounterId: string) {
  const session = useSession()
  const names = useNames()
  const billing = `/api/billing/encounters/${encounterId}`

  const encounter = shallowRef<Encounter | null>(null)
  const account = shallowRef<Account | null>(null)
  const entries = shallowRef<Entry[]>([])
  const bill = shallowRef<Bill | null>(null)
  /** The quote the family saw before this one, so that what changed is marked. */
  const before = shallowRef<Bill | null>(null)
  const isLoaded = ref(false)
  /** Why nothing can be shown. */
  const trouble = shallowRef<Problem | null>(null)
  /** Why the last act was refused, and which it was. */
  const refusal = shallowRef<{ problem: Problem; act: Act } | null>(null)
  const isCut = ref(!navigator.onLine)
  const isSaved = ref(false)
  const doing = ref<Act['name'] | null>(null)
  const begun = ref(read(session.me?.user_id ?? '', encounterId))
  watch(begun, (value) => keep(value), { deep: true })

  const patient = computed<Patient | null>(() => {
    if (encounter.value === null) return null
    const token = encounter.value.patient_tok
    return patientOf(token, names.known.get(token))
  })
  const name = computed(() => (encounter.value === null ? null : (names.known.get(encounter.value.patient_tok)?.masked_name ?? null)))

  let isOver = false
  let timer: ReturnType<typeof setTimeout> | null = null
  let lookedAt: string | null = null
  let quoted: Bill | null = null

  /** Note whether the way to the doors is open; what a door said by itself is no cut network. */
  async function asked<T>(question: Promise<T>): Promise<T> {
    try {
      const answer = await question
      isCut.value = false
      return answer
    } catch (error) {
      const problem = asProblem(error)
      isCut.value = GOES_ON.has(problem.status) && problem.status !== 429
      throw problem
    }
  }

  async function readBill(): Promise<Bill | null> {
    try {
      const found = await asked(get<Bill>(`${billing}/bills/latest`))
      return found.interim && found.state === 'settled' && found.bill_id === begun.value.seen ? null : found
    } catch (error) {
      const problem = asProblem(error)
      if (problem.status === 404) return null
      throw problem
    }
  }

  async function readStatement(): Promise<Entry[]> {
    const found: Entry[] = []
    let path: string | null = `${billing}/statement?limit=${PAGE}`
    while (path !== null) {
      const page: { lines: Entry[]; next: string | null } = await asked(get(path))
      found.push(...page.lines)
      path = page.next
    }
    return found
  }

  async function readAccount(): Promise<void> {
    const [found, lines] = await Promise.all([asked(get<Account>(`${billing}/account`)), readStatement()])
    account.value = found
    entries.value = lines
  }

  /** Read how things stand; the account too when anything moved since the last look. */
  async function look(): Promise<void> {
    if (encounter.value === null) {
      encounter.value = await asked(get<Encounter>(`/api/admission/encounters/${encounterId}`))
      names.want(encounter.value.patient_tok)
    }
    const found = await readBill()
    const moved = found === null ? 'none' : [found.bill_id, found.state, found.deposits_fen, found.line_changed].join()
    if (moved !== lookedAt || live(found) === null) await readAccount()
    lookedAt = moved
    if (found?.state === 'quoted' && found.bill_id !== quoted?.bill_id) {
      before.value = quoted
      quoted = found
    }
    bill.value = found
    isLoaded.value = true
    trouble.value = null
  }

  async function lookOnce(): Promise<void> {
    try {
      await look()
    } catch (error) {
      const problem = asProblem(error)
      // What was read before stays on the screen while the network is away; the banner says so.
      if (!isLoaded.value || !GOES_ON.has(problem.status)) trouble.value = problem
    }
  }

  async function watchOn(): Promise<void> {
    if (isOver) return
    if (timer !== null) clearTimeout(timer)
    await lookOnce()
    if (isOver) return
    if (timer !== null) clearTimeout(timer)
    timer = setTimeout(() => void watchOn(), rests(bill.value) && !isCut.value ? LOOK_AT_REST_MS : LOOK_MS)
  }

  function untilBack(): Promise<void> {
    return new Promise((resolve) => {
      const go = (): void => {
        removeEventListener('online', go)
        resolve()
      }
      addEventListener('online', go)
      setTimeout(go, TRY_AGAIN_MS)
    })
  }

  /**
   * Do something until a door has decided, and say whether it was done; a second press meanwhile does nothing.
   *
   * `kept` acts survive a reload; the number of an insured person is not kept, so its act is not.
   */
  /** Do it and return what was answered; nothing when it was refused or is left to somebody else. */
  async function act(wanted: Act, kept = true): Promise<Done | null> {
    if (doing.value !== null) return null
    doing.value = wanted.name
    refusal.value = null
    if (kept) begun.value = { ...begun.value, act: wanted, actAt: Date.now() }
    let done: Done | null = null
    for (;;) {
      try {
        done = (await asked(post<Done | undefined>(`${billing}${wanted.path}`, wanted.body))) ?? {}
        break
      } catch (error) {
        const problem = asProblem(error)
        if (!GOES_ON.has(problem.status) && problem.code !== 'in_progress') {
          refusal.value = { problem, act: wanted }
          break
        }
        isSaved.value = true
        await untilBack()
        if (isOver) return null
      }
    }
    begun.value = { ...begun.value, act: null, actAt: 0 }
    isSaved.value = false
    lookedAt = null
    await lookOnce()
    doing.value = null
    return done
  }

  /** Have the bill made anew, for this payer; an interim one when the patient stays. Who left meanwhile settles for good. */
  function draft(asSelfPay: boolean): Promise<Done | null> {
    const interim = begun.value.goesOn && encounter.value?.discharged_at === null
    return act({ name: 'bill', path: '/bills', body: { as_self_pay: asSelfPay, interim } })
  }

  const wake = (): void => {
    if (document.visibilityState === 'visible') void watchOn()
  }
  const cut = (): void => {
    isCut.value = true
  }
  onMounted(async () => {
    addEventListener('online', wake)
    addEventListener('offline', cut)
    document.addEventListener('visibilitychange', wake)
    void watchOn()
    if (begun.value.act !== null) await act(begun.value.act)
  })
  onBeforeUnmount(() => {
    isOver = true
    if (timer !== null) clearTimeout(timer)
    removeEventListener('online', wake)
    removeEventListener('offline', cut)
    document.removeEventListener('visibilitychange', wake)
  })

  return { encounterId, encounter, patient, name, account, entries, bill, before, isLoaded, trouble, refusal, isCut, isSaved, doing, begun, act, draft, look: lookOnce }
}

/** What an act was answered; most of it is read again from the server. */
export type Done = { state?: string }
export type Stay = ReturnType<typeof useStay>
