// Anything that is started and stopped, and how it says how it is.

export type ServiceStatus = 'stopped' | 'starting' | 'running' | 'degraded' | 'draining' | 'failed';

export interface HealthReport {
  readonly status: ServiceStatus;
  /** Why, in words for a person, when it is not `running`. */
  readonly reason?: string;
}

/** The report, and a reason besides for which the part does less than it seems to. */
export function alsoDegraded(report: HealthReport, reason: string): HealthReport {
  return {
    status: report.status === 'running' ? 'degraded' : report.status,
    reason: report.reason === undefined ? reason : `${report.reason} ${reason}`,
  };
}

export interface Service {
  readonly name: string;
  /** Touches the world; may be retried after a failure. */
  start(signal: AbortSignal): Promise<void>;
  /** Idempotent: every caller gets the same promise. Finishes what is under way until `signal` aborts, then ends. */
  stop(signal: AbortSignal): Promise<void>;
  health(): HealthReport;
}
