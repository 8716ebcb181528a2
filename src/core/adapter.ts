// Contract of the field side. An adapter speaks one field protocol for some leaf devices. It hands in readings or
// messages and takes writes; it never routes, stores or decides what is acknowledged.

import type { Clock } from './clock.ts';
import type { DeviceId, DeviceState } from './device.ts';
import type { LogFields, Logger } from './log.ts';
import type { Message } from './message.ts';
import type { PointValue, Quality, ReadingBatch } from './reading.ts';
import type { HealthReport } from './service.ts';
import type { DeviceShape, PointShape } from './shape.ts';
import type { StateSpace } from './state.ts';
import type { WriteRules } from './write-rules.ts';

/** What values a point can have, as far as its adapter knows. */
export type ValueKind =
  | { readonly kind: 'boolean' }
  /** One of `texts`, else any text. */
  | { readonly kind: 'text'; readonly texts?: readonly string[] }
  | { readonly kind: 'integer'; readonly min?: number; readonly max?: number }
  | { readonly kind: 'number'; readonly min?: number; readonly max?: number; readonly decimals?: number };

/** What an adapter tells about one point before there is a value. */
export interface PointInfo {
  readonly name: string;
  /** In the adapter's own words, for example `holding:342 float32 CDAB`. */
  readonly address: string;
  readonly unit?: string;
  readonly writable: boolean;
  readonly values?: ValueKind;
  /** What the pipeline makes of its values. Default: the device's `shape.pointDefaults`. */
  readonly shape?: PointShape;
  /** What of a writable point may be written; the dispatcher sees to it. */
  readonly writeRules?: WriteRules | undefined;
}

export interface DeviceInfo {
  readonly deviceId: DeviceId;
  readonly points: readonly PointInfo[];
  /** Names of the actions that the device can be told to do, beside being written. */
  readonly actions?: readonly string[];
  readonly shape?: DeviceShape;
  /** How often it is read, where it is polled. */
  readonly pollIntervalMs?: number;
}

/** Why a device that showed itself is not taken in: its id is configured or in use elsewhere; there are `LIMITS.devices`. */
export type DeviceRefusal = 'foreign_device' | 'too_many_devices';

export interface PointWrite {
  readonly deviceId: DeviceId;
  readonly point: string;
  readonly value: PointValue;
}

/**
 * How a write ended. `good`: the device has confirmed it, by its own answer or by what was read back from it. Where nothing
 * confirms it, it is `UNCONFIRMED`.
 */
export interface WriteResult {
  /** What the device says it holds now; without it a good write is confirmed with the value that was written. */
  readonly readBack?: PointValue;
  readonly quality: Quality;
}

/** Sent, and nothing says whether it was taken. */
export const UNCONFIRMED: WriteResult = { quality: { level: 'uncertain', reason: 'unconfirmed' } };

/** Something that a device is told to do. */
export interface ActionCall {
  readonly deviceId: DeviceId;
  readonly action: string;
  /** What came with the command, any JSON; undefined: nothing. */
  readonly payload?: unknown;
}

/** How an action ended. */
export interface ActionResult {
  /** What the device answered, any JSON; undefined: it confirmed nothing but the receipt. */
  readonly payload?: unknown;
}

/** One exchange on the wire, for metrics and the frame log. */
export interface Exchange {
  readonly deviceId: DeviceId;
  readonly operation: string;
  readonly durationMs: number;
  /** `ok`, or a stable reason such as `timeout`, `crc`, `exception_2`. */
  readonly outcome: string;
}

/** One scheduled poll, so that "on time" can be measured. */
export interface PollTiming {
  readonly deviceId: DeviceId;
  readonly periodMs: number;
  /** Start minus due time in ms; negative never. */
  readonly latenessMs: number;
  readonly durationMs: number;
  /** Periods skipped since the previous poll because the bus was busy. */
  readonly missedPolls: number;
}

/** What the gateway hands to an adapter. */
export interface AdapterContext {
  /** The name under `adapters:`. */
  readonly adapterId: string;
  /** The gateway's own device (`gateway.id`), for names that other gateways on one broker must not share. */
  readonly gatewayId: DeviceId;
  readonly clock: Clock;
  readonly log: Logger;
  /** The data directory; for paths of the configuration that are not absolute. */
  readonly dataDirectory: string;
  /** Folder for captures of raw bytes; may not exist yet. */
  readonly captureDirectory: string;
  /** All of its configured devices are simulated or replayed: no peer at a site may be reached, or told anything. */
  readonly isOnDesk?: boolean;
  /** What this adapter keeps over restarts, durably. It may be out of order for a while: then it throws. */
  readonly state: StateSpace;
  /** Polled and streamed values: waits for nobody; stored, else counted as lost. */
  publishReadings(batch: ReadingBatch): void;
  /**
   * Messages whose sender waits for an acknowledgement: resolves after the sync of the one commit that holds them all.
   * @throws GatewayError GW_OUTBOX_FULL, GW_OUTBOX_BUSY, GW_MESSAGE_INVALID, GW_STORE_WRITE: then nothing is acknowledged.
   */
  publishMessages(messages: readonly Message[], signal?: AbortSignal): Promise<void>;
  /**
   * Readings whose sender waits for an acknowledgement: resolves after the sync of the commit that holds what of them is
   * worth a message; at once for what a window or a rate limit keeps in memory. @throws GatewayError as `publishMessages`.
   */
  storeReadings(batch: ReadingBatch, signal?: AbortSignal): Promise<void>;
  /** Resolves when the pipeline takes more; at once while it does. An adapter that can slow its source waits here. */
  ready(signal: AbortSignal): Promise<void>;
  /**
   * Takes in a device that showed itself, or what is newly known of its points. Cheap when called again with the same
   * object. Undefined: it is taken in; else nothing of it may be published.
   */
  addDevice(device: DeviceInfo): DeviceRefusal | undefined;
  /** Counts what a peer was refused, by a stable reason such as `bad_credentials`; told in the log now and then. */
  reportRefusal(reason: string, fields?: LogFields): void;
  reportDevice(deviceId: DeviceId, state: DeviceState, reason?: string): void;
  reportExchange(exchange: Exchange): void;
  reportPoll(timing: PollTiming): void;
}

export interface Adapter {
  /** The leaf devices that are configured; those that show themselves at run time come with `addDevice`. */
  devices(): readonly DeviceInfo[];
  /**
   * For a simulation: the configured devices, with the points that such devices usually have where they tell them only when
   * they speak. Default: `devices()`.
   */
  typicalDevices?(): readonly DeviceInfo[];
  /**
   * Starts its schedulers and listeners. A device or port that is absent is not a failure: it is retried for ever and
   * shown. @throws GatewayError only for what a person must change (a port to listen on that is taken, …).
   */
  start(signal: AbortSignal): Promise<void>;
  stop(signal: AbortSignal): Promise<void>;
  health(): HealthReport;
  /** Monotonic ms of its scheduler's last sign of life; feeds the watchdog. Undefined when it has no scheduler. */
  lastProgressMs?(): number | undefined;
  /**
   * Whether `write` would begin on a value, as far as can be told without the device: of a command with several values all are
   * asked about before the first is written. Without it nothing is refused beforehand.
   * @throws GatewayError GW_NOT_FOUND, GW_WRITE_REFUSED, with what is allowed.
   */
  checkWrite?(write: PointWrite): void;
  /**
   * Writes go before reads.
   * @throws GatewayError GW_NOT_FOUND, GW_WRITE_REFUSED, GW_DEVICE_OFFLINE, GW_MODBUS_EXCEPTION, GW_WRITE_VERIFY, …; GW_ABORTED
   * once the signal has or the adapter stops, with `details.reason` `not_sent` where the device was surely not reached.
   */
  write?(write: PointWrite, signal: AbortSignal): Promise<WriteResult>;
  /** Has a device do one of its `actions`. @throws GatewayError as `write`. */
  invoke?(call: ActionCall, signal: AbortSignal): Promise<ActionResult>;
  /**
   * Asks a device who it is; by names such as `vendor_name`, `product_code`, `revision`.
   * @throws GatewayError GW_NOT_FOUND, GW_DEVICE_OFFLINE, GW_MODBUS_EXCEPTION, …
   */
  identify?(deviceId: DeviceId, signal: AbortSignal): Promise<Readonly<Record<string, string>>>;
  /**
   * Its own line to a place (`tcp://10.0.0.5:502`, a serial port), for a scan of the same module, which then takes its turn
   * between the polls; undefined when it has none there. Only the module knows what a line is.
   */
  lendLine?(target: string): unknown;
}
