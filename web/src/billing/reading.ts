/** A page's own reading, again and again while somebody looks at it; what was read stays when the network goes, with its age. */
import { onBeforeUnmount, onMounted, ref, shallowRef } from 'vue'
import { type Problem, asProblem } from '@/api/problem'

export function useReading<T>(read: () => Promise<T>, everyMs: number) {
  const data = shallowRef<T | null>(null)
  const problem = shallowRef<Problem | null>(null)
  const readAt = ref<number | null>(null)
  let asked = 0
  let isOver = false
  let timer: ReturnType<typeof setTimeout> | null = null

  /** Read now; an answer that was overtaken by a later question is not shown. */
  async function look(): Promise<void> {
    const mine = (asked += 1)
    try {
      const found = await read()
      if (mine !== asked) return
      data.value = found
      readAt.value = Date.now()
      problem.value = null
    } catch (error) {
      if (mine === asked) problem.value = asProblem(error)
    }
  }

  async function goOn(): Promise<void> {
    if (timer !== null) clearTimeout(timer)
    if (document.visibilityState === 'visible') await look()
    if (timer !== null) clearTimeout(timer)
    if (!isOver) timer = setTimeout(() => void goOn(), everyMs)
  }

  /** Show nothing until the next answer: another day, another list. */
  function forget(): void {
    asked += 1
    data.value = null
    readAt.value = null
    problem.value = null
    void look()
  }

  const wake = (): void => {
    if (document.visibilityState === 'visible') void goOn()
  }
  onMounted(() => {
    addEventListener('online', wake)
    document.addEventListener('visibilitychange', wake)
    void goOn()
  })
  onBeforeUnmount(() => {
    isOver = true
    if (timer !== null) clearTimeout(timer)
    removeEventListener('online', wake)
    document.removeEventListener('visibilitychange', wake)
  })

  return { data, problem, readAt, look, forget }
}
