// Faults on request, as the vendor's own tests of its SDKs ask for them: by properties of a telemetry message, which is not stored.
// The fault begins `DelayInSecs` later; a refusal then lasts `DurationInSecs`.

import type { IotHubErrorName } from './errors.ts';

export interface FaultRequest {
  /** `AzIoTHub_FaultOperationType`: KillTcp, ShutDownMqtt, InvokeThrottling, … */
  readonly type: string;
  /** `AzIoTHub_FaultOperationCloseReason`: words for the error. */
  readonly reason: string;
  readonly delayMs: number;
  readonly durationMs: number;
}

/** Kinds that refuse telemetry instead of cutting something, and with what. */
export const FAULT_REFUSALS: ReadonlyMap<string, IotHubErrorName> = new Map([
  ['InvokeThrottling', 'ThrottlingException'],
  ['InvokeMaxMessageQuota', 'IotHubQuotaExceeded'],
  ['InvokeAuthError', 'IotHubUnauthorizedAccess'],
]);

const MAX_SECS = 3600;
const REASON_CHARS = 200;

/** Undefined for a message that asks for none. Times that are none count as 0. */
export function faultRequest(properties: Readonly<Record<string, string>>): FaultRequest | undefined {
  const type = properties['AzIoTHub_FaultOperationType'];
  if (type === undefined) return undefined;
  return {
    type,
    reason: (properties['AzIoTHub_FaultOperationCloseReason']?.trim() || 'A fault was injected.').slice(
      0,
      REASON_CHARS,
    ),
    delayMs: secondsOf(properties['AzIoTHub_FaultOperationDelayInSecs']),
    durationMs: secondsOf(properties['AzIoTHub_FaultOperationDurationInSecs']),
  };
}

function secondsOf(text: string | undefined): number {
  const seconds = Number(text ?? 0);
  return seconds > 0 && seconds <= MAX_SECS ? seconds * 1000 : 0;
}
