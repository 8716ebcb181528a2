// What people and programs may ask of a running gateway: the port behind the web server, the control socket and the
// command line. Everything here is plain JSON data, ready to be sent; times are ISO 8601 in UTC, ages are measured.

import type { AuditRecord } from './command.ts';
import type { DeviceState } from './device.ts';
import type { HubAdmin } from './hub/admin.ts';
import type { OutboxStats } from './outbox.ts';
import type { JsonValue } from './reading.ts';
import type { ScanEvent, ScanRequest } from './scan.ts';
import type { HealthReport } from './service.ts';
import type { ClockQuality } from './time.ts';

export type { JsonValue };

/** One part that is not simply running. */
export interface HealthReason extends HealthReport {
  /** `outbox`, `adapter bus-1`, `endpoint $upstream`, `web`, … */
  readonly part: string;
}

/** The roll-up of all parts' health. */
export interface HealthSummary {
  /** False when the process cannot do its work any more and should be restarted. */
  readonly live: boolean;
  /** Started, and able to take and store messages. */
  readonly ready: boolean;
  /** Something does less than configured; `reasons` names it. */
  readonly degraded: boolean;
  readonly reasons: readonly HealthReason[];
}

/** Something that happened, from the catalogue of telemetry events. */
export interface RecentEvent {
  readonly time: string;
  readonly name: string;
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly text: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface AdapterView {
  readonly adapterId: string;
  readonly type: string;
  readonly health: HealthReport;
  /** Its leaf devices by state. */
  readonly devices: Readonly<Record<DeviceState, number>>;
}

export interface EndpointView {
  /** `$upstream`, or the name under `endpoints:`. */
  readonly name: string;
  readonly type: string;
  /** Where it goes, without credentials. */
  readonly target: string;
  /** The word of the connection's state machine: `connected`, `backing_off`, … */
  readonly state: string;
  readonly connected: boolean;
  /** Why it is not connected, in words for a person. */
  readonly reason?: string;
  /** How long it has been in that state. */
  readonly stateAgeMs?: number;
  /** What a newcomer may do to see what arrives there, for example a command to subscribe. */
  readonly hint?: string;
}

/** Which configuration runs, and what is wrong with the latest if that one does not. */
export interface ConfigView {
  /** The one in use: the base that a change has to name. */
  readonly generation: number;
  readonly state: string;
  readonly path: string;
  /** An older generation runs because the latest does not load. */
  readonly degraded: boolean;
  /** Faults of the latest: `file:line: path: what is wrong, what is allowed`. */
  readonly faults: readonly string[];
  /** End of the trial, when one is under way: it reverts then unless confirmed. */
  readonly trialEndsAt?: string;
}

/** The machine; absent fields could not be read. */
export interface HostView {
  readonly cpuPercent?: number;
  readonly temperatureCelsius?: number;
  readonly memoryTotalBytes?: number;
  readonly memoryAvailableBytes?: number;
  readonly diskTotalBytes?: number;
  readonly diskFreeBytes?: number;
}

export interface ProcessView {
  readonly pid: number;
  readonly rssBytes: number;
  readonly heapUsedBytes: number;
  /** Largest delay of the event loop since the last look, at most the last 10 s. */
  readonly eventLoopLagMs: number;
}

export interface GatewayStatus {
  readonly gatewayId: string;
  readonly version: string;
  readonly startedAt: string;
  readonly uptimeSecs: number;
  readonly time: string;
  readonly clock: ClockQuality;
  readonly health: HealthSummary;
  readonly adapters: readonly AdapterView[];
  readonly endpoints: readonly EndpointView[];
  readonly outbox: OutboxStats;
  readonly config: ConfigView;
  readonly process: ProcessView;
  readonly host: HostView;
  /** Newest first. */
  readonly events: readonly RecentEvent[];
}

export interface PointView {
  readonly point: string;
  /** The last value that was not bad. */
  readonly value?: JsonValue;
  /** `good`, `uncertain:REASON`, `bad:REASON`; `unknown` before the first reading. */
  readonly quality: string;
  readonly unit?: string;
  readonly address: string;
  readonly writable: boolean;
  /** Time of the last reading. */
  readonly time?: string;
  /** Age of the last reading. */
  readonly ageMs?: number;
  /** Age of the last good reading, which is that of `value`. */
  readonly goodAgeMs?: number;
}

export interface DeviceView {
  readonly deviceId: string;
  readonly adapterId: string;
  readonly state: DeviceState;
  readonly reason?: string;
  readonly stateAgeMs?: number;
  readonly points: readonly PointView[];
}

/** One page of a list in a stable order. */
export interface Page<Item> {
  readonly items: readonly Item[];
  /** Pass as `after` for the next page; absent on the last. */
  readonly next?: string;
}

export interface DeviceQuery {
  readonly deviceId?: string;
  readonly adapterId?: string;
  readonly state?: DeviceState;
  /** Device id after which the page begins. */
  readonly after?: string;
  /** Devices in the page: 1 to 1000, default 100. */
  readonly limit?: number;
  /** False leaves the points out. Default true. */
  readonly withPoints?: boolean;
}

/** A stored message for people and exports. */
export interface MessageView {
  readonly offset: number;
  readonly seq: number;
  readonly epoch: string;
  readonly messageId: string;
  readonly deviceId: string;
  readonly time: string;
  readonly clock: ClockQuality;
  readonly properties: Readonly<Record<string, string>>;
  readonly systemProperties: Readonly<Record<string, string>>;
  readonly bodyBytes: number;
  /** The body as text when it is UTF-8, else absent. */
  readonly body?: string;
  /** The body in base64 when it is not UTF-8. */
  readonly bodyBase64?: string;
}

export interface QuarantinedView {
  readonly id: string;
  readonly queue: string;
  readonly reason: string;
  readonly at: string;
  readonly message: MessageView;
}

/** The outbox for operators, the same for a running gateway and for a store opened by a command. */
export interface BufferAdmin {
  stats(): Promise<OutboxStats>;
  /** In offset order from `fromOffset`; `limit` 1 to 1000. @throws GatewayError GW_NOT_FOUND for an unknown queue. */
  messages(options: { queue?: string; fromOffset?: number; limit: number }): Promise<readonly MessageView[]>;
  quarantined(options: { afterId?: string; limit: number }): Promise<readonly QuarantinedView[]>;
  /** Sends quarantined messages again. Returns how many. */
  requeue(ids: readonly string[]): Promise<number>;
  /** Deletes quarantined messages for good. Returns how many. */
  discard(ids: readonly string[]): Promise<number>;
  /** Drops what a queue holds. Returns how many messages. @throws GatewayError GW_NOT_FOUND. */
  purge(queue: string): Promise<number>;
}

export interface WriteRequest {
  readonly deviceId: string;
  readonly point: string;
  readonly value: JsonValue;
  /** `value` is the text of an integer beyond 2^53-1, which JSON cannot carry as a number. */
  readonly integer?: boolean;
}

export interface WriteView {
  readonly readBack?: JsonValue;
  readonly quality: string;
}

export interface ConfigGenerationView {
  readonly number: number;
  readonly state: string;
  readonly actor: string;
  readonly at: string;
  readonly base?: number;
}

/** What a change of the configuration would do: the faults, or the parts that change. */
export interface ConfigCheckView {
  readonly faults: readonly string[];
  /** `outbox: live`, `adapter:bus-1: restart_part`, … */
  readonly changes: readonly string[];
}

/** A text that somebody wants to run. */
export interface ConfigProposal {
  readonly text: string;
  /** The generation that was in use when the author read it. */
  readonly base: number;
  /** Who wants it: `ui:anna`, `api`, `cli:root`, … */
  readonly actor: string;
  /** Reverts unless confirmed within this time. */
  readonly trialSecs?: number;
  /** Where the author has the text, for what is told of its faults; default the file that runs. */
  readonly file?: string;
}

/** Changes of the configuration while running: each is one generation with actor and base. */
export interface ConfigAdmin {
  view(): ConfigView;
  generations(): Promise<readonly ConfigGenerationView[]>;
  /**
   * The text of a generation, with *** for secrets that stand in it in clear.
   * @throws GatewayError GW_NOT_FOUND, GW_CONFIG_INVALID for a text that is not YAML, whose secrets nobody could tell.
   */
  read(generation: number): Promise<string>;
  check(text: string): Promise<ConfigCheckView>;
  /** Whether a change from that generation would be taken now. @throws GatewayError GW_CONFIG_CONFLICT. */
  checkBase(base: number): void;
  /**
   * Makes the text the newest generation and applies it; with `trialSecs` it reverts unless confirmed in time.
   * @throws GatewayError GW_CONFIG_INVALID, GW_CONFIG_CONFLICT, GW_CONFIG_IO.
   */
  propose(change: ConfigProposal): Promise<ConfigGenerationView>;
  confirm(generation: number, actor: string): Promise<void>;
  revert(generation: number, actor: string): Promise<void>;
}

/** The points of one device that were just read. */
export interface LiveUpdate {
  readonly deviceId: string;
}

export interface AdminApi {
  readonly gatewayId: string;
  readonly version: string;
  status(): GatewayStatus;
  health(): HealthSummary;
  /** Prometheus text, version 0.0.4. */
  metrics(): Promise<string>;
  /** Leaf devices with their points and last values, by device id. */
  devices(query?: DeviceQuery): Page<DeviceView>;
  /**
   * Tells which device has new values; the listener must be quick and fetches what it shows with `devices`. Returns a
   * function that ends it. @throws GatewayError GW_THROTTLED past LIMITS.web_live_clients.
   */
  subscribe(listener: (update: LiveUpdate) => void): () => void;
  readonly buffer: BufferAdmin;
  /** The local hub; its functions refuse while it is off. */
  readonly hub: HubAdmin;
  readonly config: ConfigAdmin;
  /**
   * Writes a value and reads it back. @throws GatewayError GW_NOT_FOUND, GW_WRITE_REFUSED, GW_DEVICE_OFFLINE, GW_TIMEOUT,
   * GW_MODBUS_EXCEPTION, GW_WRITE_VERIFY.
   */
  write(request: WriteRequest, actor: string): Promise<WriteView>;
  /** What devices were told to do, the newest first; `limit` 1 to 1000, `before` the number of the last one seen. */
  audit(options: { readonly limit: number; readonly before?: number }): Promise<readonly AuditRecord[]>;
  /** What a device tells of itself. @throws GatewayError GW_NOT_FOUND, GW_DEVICE_OFFLINE, GW_TIMEOUT, GW_MODBUS_EXCEPTION. */
  identify(deviceId: string): Promise<Readonly<Record<string, string>>>;
  /**
   * Searches for devices; one scan at a time. Resolves when it is over, whatever it found.
   * @throws GatewayError GW_USAGE for options that cannot be, GW_NOT_FOUND for a type that cannot be scanned, GW_THROTTLED
   * while another one is under way, GW_ABORTED once the signal has.
   */
  scan(
    request: ScanRequest,
    options: { readonly signal: AbortSignal; readonly report: (event: ScanEvent) => void },
  ): Promise<void>;
}
