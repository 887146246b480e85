/** The allocation desk: who waits, what fits the chosen one, and the plan for all; read again whenever beds change. */
import { defineStore } from 'pinia'
import { computed, ref, shallowRef } from 'vue'
import type { AssignBody, Assigned, BedRequest, Escalation, Move, Plan, PlanAccepted, Planned, Proposals } from '@/api/pool'
import { get, post } from '@/api/http'
import { type Problem, asProblem } from '@/api/problem'

const QUEUE_MAX = 200

export const useDesk = defineStore('desk', () => {
  const requests = shallowRef<BedRequest[] | null>(null)
  const chosen = ref<string | null>(null)
  const proposals = shallowRef<Proposals | null>(null)
  const plan = shallowRef<Plan | null>(null)
  const problem = shallowRef<Problem | null>(null)
  const choiceProblem = shallowRef<Problem | null>(null)

  const escalations = shallowRef<Escalation[]>([])
  const moves = shallowRef<Move[]>([])

  const byId = computed(() => new Map((requests.value ?? []).map((one) => [one.encounter_id, one])))

  async function readQueue(): Promise<void> {
    try {
      const [queue, made, silent, moving] = await Promise.all([
        get<{ requests: BedRequest[] }>(`/api/beds/requests?limit=${QUEUE_MAX}`),
        get<Plan>('/api/beds/plan'),
        get<{ escalations: Escalation[] }>('/api/beds/escalations'),
        get<{ moves: Move[] }>('/api/beds/moves'),
      ])
      escalations.value = silent.escalations
      moves.value = moving.moves
      requests.value = queue.requests
      plan.value = made
      problem.value = null
    } catch (error) {
      problem.value = asProblem(error)
    }
  }

  async function choose(encounterId: string | null): Promise<void> {
    if (chosen.value !== encounterId) {
      chosen.value = encounterId
      proposals.value = null
    }
    choiceProblem.value = null
    if (encounterId === null) return
    try {
      const answer = await get<Proposals>(`/api/beds/requests/${encounterId}/proposals`)
      if (chosen.value === encounterId) proposals.value = answer
    } catch (error) {
      if (chosen.value === encounterId) choiceProblem.value = asProblem(error)
    }
  }

  async function refresh(): Promise<void> {
    await readQueue()
    if (chosen.value !== null && byId.value.has(chosen.value)) await choose(chosen.value)
  }

  async function assign(encounterId: string, bedId: number, version: number, travelMinutes: number | null, reason?: string): Promise<Assigned> {
    const body: AssignBody = { bed_id: bedId, version, travel_minutes: travelMinutes, reason: reason ?? null }
    return post<Assigned>(`/api/beds/requests/${encounterId}/assignment`, body)
  }

  async function accept(planned: readonly Planned[]): Promise<PlanAccepted> {
    const items = planned.map(({ encounter_id, bed_id, version }) => ({ encounter_id, bed_id, version }))
    return post<PlanAccepted>('/api/beds/plan/acceptance', { items })
  }

  async function makeLink(encounterId: string): Promise<{ path: string; expires_at: string }> {
    return post(`/api/beds/encounters/${encounterId}/queue-link`, {})
  }

  return { escalations, moves, requests, chosen, proposals, plan, problem, choiceProblem, byId, readQueue, choose, refresh, assign, accept, makeLink }
})
