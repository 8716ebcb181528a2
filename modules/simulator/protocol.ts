// What the adapter and the process of the site tell each other.

/** First argument of the process, as JSON. */
export interface SiteOptions {
  readonly address: string;
  readonly port: number;
  /** Wall clock in ms at which the process was started; the energy counter goes on from there. */
  readonly startWallMs: number;
  /** The MQTT leaf device, when there is to be one. */
  readonly leaf?: { readonly url: string; readonly deviceId: string };
  /** Where the pseudo-terminal of the scale is linked; absent: there is no scale. */
  readonly scalePath?: string;
}

/** Told over the IPC channel. */
export type SiteReport =
  | { readonly kind: 'listening' }
  /** The port of the Modbus server cannot be had now, for that reason of the system; it is tried again. */
  | { readonly kind: 'refused'; readonly code: string }
  /** The scale has its pseudo-terminal. */
  | { readonly kind: 'scale' }
  /** The scale has no pseudo-terminal, or none any more; it is made again. */
  | { readonly kind: 'no_scale'; readonly reason: string };

export function isSiteReport(value: unknown): value is SiteReport {
  if (typeof value !== 'object' || value === null || !('kind' in value)) return false;
  if (value.kind === 'no_scale') return 'reason' in value && typeof value.reason === 'string';
  if (value.kind === 'listening' || value.kind === 'scale') return true;
  return value.kind === 'refused' && 'code' in value && typeof value.code === 'string';
}
