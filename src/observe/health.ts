// The roll-up of every part's health into three answers: live (restart me if not), ready (takes and stores messages),
// degraded (does less than configured, and why).

import type { HealthReason, HealthSummary } from '../core/admin.ts';
import type { HealthReport } from '../core/service.ts';

export interface HealthPart {
  /** As shown to people: `outbox`, `adapter bus-1`, `endpoint $upstream`. */
  readonly part: string;
  readonly report: HealthReport;
  /** Without it nothing can be taken and stored: the gateway is ready only while it is running or degraded. */
  readonly essential: boolean;
}

export interface HealthFacts {
  readonly parts: readonly HealthPart[];
  /** The boot is over. */
  readonly started: boolean;
  /** What makes no progress, as the watchdog sees it; empty when all is well. */
  readonly stalled: readonly string[];
}

export function summarizeHealth({ parts, started, stalled }: HealthFacts): HealthSummary {
  const reasons: HealthReason[] = stalled.map((reason) => ({ part: 'gateway', status: 'failed', reason }));
  if (!started) reasons.push({ part: 'gateway', status: 'starting', reason: 'The gateway is starting.' });
  const live = stalled.length === 0;
  let ready = started && live;
  for (const { part, report, essential } of parts) {
    if (report.status === 'running') continue;
    reasons.push({ part, ...report });
    if (essential && report.status !== 'degraded') ready = false;
  }
  return { live, ready, degraded: reasons.length > 0, reasons };
}
