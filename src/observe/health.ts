// The roll-up of every part's health into three answers: live (restart me if not), ready (takes and stores messages),
// degraded (does less than configured, and why).

import type { HealthReason, HealthSummary } from '../core/admin.ts';
import type { HealthReport } from '../core/service.ts';

export interface HealthPart {
  /** As shown to people: `outbox`, `adapter bus-1`, `endpoint $upstream`. */
  readonly part: string;
  readonly report: HealthReport;
  /** Without it nothing can be taken and stored: not ready unless it runs or is degraded, not live when it failed. */
  readonly essential: boolean;
}

/** `started`: the boot is over, so a part that still starts does not hold readiness back unless it is essential. */
export function summarizeHealth(parts: readonly HealthPart[], started: boolean): HealthSummary {
  const reasons: HealthReason[] = [];
  let live = true;
  let ready = started;
  if (!started) reasons.push({ part: 'gateway', status: 'starting', reason: 'The gateway is starting.' });
  for (const { part, report, essential } of parts) {
    if (report.status === 'running') continue;
    reasons.push({ part, ...report });
    if (!essential) continue;
    if (report.status === 'failed') live = false;
    if (report.status !== 'degraded') ready = false;
  }
  return { live, ready: ready && live, degraded: reasons.length > 0, reasons };
}
