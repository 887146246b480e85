/** Who is logged in, on this device, now. The token lives in memory only; the refresh cookie no script can read (S7). */
import { defineStore } from 'pinia'
import { computed, ref } from 'vue'
import type { components } from '@/api/generated/access'
import { authorization, get, useCredentials } from '@/api/http'
import { Problem, asProblem, problemOf } from '@/api/problem'

type TokenAnswer = components['schemas']['TokenAnswer']
type Me = components['schemas']['Me']

const RENEW_BEFORE_MS = 60_000
const LOCKED = 'wardstream.locked'
/** Idle minutes before the lock: people at the bedside walk away, people in an office turn round (S7). */
export const LOCK_MINUTES = { clinical: 3, office: 10 } as const
const CLINICAL_ROLES = new Set(['ward_nurse', 'doctor', 'day_surgery_coordinator'])

export const useSession = defineStore('session', () => {
  const me = ref<Me | null>(null)
  const token = ref<string | null>(null)
  const tokenEndsAt = ref(0)
  const isLocked = ref(sessionStorage.getItem(LOCKED) !== null)
  let renewing: Promise<boolean> | null = null
  let renewTimer: ReturnType<typeof setTimeout> | null = null

  const isKnown = computed(() => me.value !== null)
  const lockMinutes = computed(() =>
    me.value?.roles.some((role) => CLINICAL_ROLES.has(role)) ? LOCK_MINUTES.clinical : LOCK_MINUTES.office,
  )

  function may(permission: string): boolean {
    return me.value?.permissions.includes(permission as never) ?? false
  }

  /** Whether somebody's duty is in this ward; `*` is duty in all wards. */
  function isOnDutyIn(ward: string): boolean {
    return me.value?.wards.some((one) => one === '*' || one === ward) ?? false
  }

  async function take(answer: TokenAnswer): Promise<void> {
    token.value = answer.token
    tokenEndsAt.value = Date.parse(answer.expires_at)
    if (renewTimer !== null) clearTimeout(renewTimer)
    renewTimer = setTimeout(() => void renew(), Math.max(5_000, tokenEndsAt.value - Date.now() - RENEW_BEFORE_MS))
    if (me.value === null || me.value.user_id !== answer.user.user_id) me.value = await get<Me>('/api/access/me')
  }

  async function ask(path: string, body?: unknown): Promise<Response> {
    try {
      return await fetch(path, {
        method: 'POST',
        headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
        body: body === undefined ? null : JSON.stringify(body),
        cache: 'no-store',
        credentials: 'same-origin',
      })
    } catch (error) {
      throw asProblem(error)
    }
  }

  async function logIn(username: string, password: string): Promise<void> {
    const response = await ask('/api/access/login', { username, password })
    if (!response.ok) throw await problemOf(response)
    const answer = (await response.json()) as TokenAnswer
    if (me.value !== null && me.value.user_id !== answer.user.user_id) me.value = null
    await take(answer)
    unlock()
  }

  /** Exchange the refresh cookie for a token; several tabs take turns, because a refresh token is good once. */
  function renew(): Promise<boolean> {
    renewing ??= inTurn(async () => {
      const response = await ask('/api/access/refresh')
      if (response.ok) {
        await take((await response.json()) as TokenAnswer)
        return true
      }
      if (response.status === 401 || response.status === 403) {
        forget()
        return false
      }
      throw await problemOf(response)
    }).finally(() => {
      renewing = null
    })
    return renewing
  }

  function inTurn(work: () => Promise<boolean>): Promise<boolean> {
    return 'locks' in navigator ? navigator.locks.request('wardstream.refresh', work) : work()
  }

  /** Come back after a reload; false when nobody is logged in here. */
  async function resume(): Promise<boolean> {
    if (me.value !== null) return true
    try {
      return await renew()
    } catch (error) {
      if (error instanceof Problem && error.status !== 0 && error.status < 500) return false
      throw error
    }
  }

  async function logOut(): Promise<void> {
    try {
      await fetch('/api/access/logout', { method: 'POST', headers: authorization(), credentials: 'same-origin' })
    } finally {
      forget()
    }
  }

  function forget(): void {
    if (renewTimer !== null) clearTimeout(renewTimer)
    token.value = null
    me.value = null
    unlock()
  }

  function lock(): void {
    if (me.value === null) return
    isLocked.value = true
    sessionStorage.setItem(LOCKED, '1')
  }

  function unlock(): void {
    isLocked.value = false
    sessionStorage.removeItem(LOCKED)
  }

  useCredentials({
    user: () => me.value?.user_id ?? '',
    token: () => token.value,
    renew: () => renew().catch(() => false),
  })

  return { me, isKnown, isLocked, lockMinutes, may, isOnDutyIn, logIn, logOut, renew, resume, lock, unlock }
})
