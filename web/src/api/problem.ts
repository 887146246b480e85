/** What went wrong, as the doors say it (RFC 9457); the sentence people read is chosen by `code` in their language. */
export interface ProblemDocument {
  type?: string
  title?: string
  status: number
  code?: string
  detail?: string
  trace_id?: string | null
  facts?: Record<string, unknown>
  errors?: { pointer: string; problem: string }[]
}

/** A refusal, an error, or no answer at all (`status` 0: the network was away, so nobody knows whether it was done). */
export class Problem extends Error {
  readonly status: number
  readonly code: string
  readonly facts: Record<string, unknown>
  readonly traceId: string | null
  readonly retryAfterSeconds: number | null

  constructor(document: ProblemDocument, retryAfterSeconds: number | null = null) {
    super(document.detail ?? document.title ?? `HTTP ${document.status}`)
    this.name = 'Problem'
    this.status = document.status
    this.code = document.code ?? (document.status === 0 ? 'no_answer' : `http_${document.status}`)
    this.facts = document.facts ?? {}
    this.traceId = document.trace_id ?? null
    this.retryAfterSeconds = retryAfterSeconds
  }

  /** Whether the same request may still succeed, or may already have succeeded unseen. */
  get isUndecided(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500 || this.code === 'in_progress'
  }
}

export async function problemOf(response: Response): Promise<Problem> {
  const waits = Number(response.headers.get('Retry-After'))
  const retryAfter = Number.isFinite(waits) && waits > 0 ? waits : null
  try {
    const document = (await response.json()) as ProblemDocument
    return new Problem({ ...document, status: response.status }, retryAfter)
  } catch {
    return new Problem({ status: response.status }, retryAfter)
  }
}

export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error
  return new Problem({ status: 0, detail: error instanceof Error ? error.message : String(error) })
}
