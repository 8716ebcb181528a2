// Time is data: a board may have no clock at boot, so each reading keeps enough to be corrected later.

/** How far the wall clock can be trusted. Only `synced` was compared with a time source in this boot. */
export type ClockQuality = 'synced' | 'rtc' | 'restored' | 'unknown';

/** When something was measured or received. */
export interface Timestamp {
  /** The boot that `monotonicMs` belongs to (`/proc/sys/kernel/random/boot_id`). */
  readonly bootId: string;
  /** CLOCK_MONOTONIC in ms since boot. */
  readonly monotonicMs: number;
  /** Wall clock in ms since 1970-01-01 UTC, as it was believed then. */
  readonly wallMs: number;
  readonly clock: ClockQuality;
}

/**
 * How long ago something was, in ms; never more than it is. Between boots a wall clock is believed only when it could be
 * trusted both times, else only the time since this boot is known.
 */
export function elapsedMs(at: Timestamp, now: Timestamp): number {
  if (at.bootId === now.bootId) return now.monotonicMs - at.monotonicMs;
  if (isTrusted(at) && isTrusted(now)) return now.wallMs - at.wallMs;
  return now.monotonicMs;
}

function isTrusted({ clock }: Timestamp): boolean {
  return clock === 'synced' || clock === 'rtc';
}

/** Length in bytes of the fixed-width form `2026-01-02T03:04:05.678Z`. */
export const ISO_TIME_BYTES = 24;

/** The fixed-width ISO 8601 form in UTC; years outside 0000 to 9999 are clamped so that the width holds. */
export function isoTime(wallMs: number): string {
  const clamped = Math.min(Math.max(Math.trunc(wallMs), -62_167_219_200_000), 253_402_300_799_999);
  return new Date(clamped).toISOString();
}

/** Length in bytes of `senmlTime`. */
export const SENML_TIME_BYTES = 14;

/** Seconds since 1970 with three decimals, filled up with blanks in front: a JSON number of fixed width (RFC 8428, 4.5.3). */
export function senmlTime(wallMs: number): string {
  const clamped = Math.min(Math.max(wallMs, -99_999_999_999), 9_999_999_999_999);
  return (clamped / 1000).toFixed(3).padStart(SENML_TIME_BYTES);
}
