// A protocol head: it translates one protocol to the hub's calls and keeps no state of the hub.

import type { Clock } from '../clock.ts';
import type { LogFields, Logger } from '../log.ts';
import type { HealthReport } from '../service.ts';
import type { Hub } from './hub.ts';
import type { ToSession } from './session.ts';

/**
 * The hub's listeners, shared by the heads: TLS on the ports of MQTT and AMQP, HTTPS and WebSockets on one port. What they
 * give are sockets, of which core knows nothing: a head gets at them with `hubDoors` (wire/hub-doors.ts).
 */
export interface Doors {
  readonly kind: 'hub-doors';
}

/** What the gateway hands to a head. */
export interface HeadContext {
  readonly hub: Hub;
  readonly doors: Doors;
  readonly clock: Clock;
  readonly log: Logger;
  /** Counts what a client was refused or cut off for, by a stable reason such as `bad_topic`; told in the log now and then. */
  reportRefusal(reason: string, fields?: LogFields): void;
}

export interface ProtocolHead {
  /** Opens its doors. A port that may not be opened degrades it and is said in `health`; it is no failure. */
  start(signal: AbortSignal): Promise<void>;
  /** Ends its sessions in the protocol's orderly way until `signal` aborts, then at once. Idempotent. */
  stop(signal: AbortSignal): Promise<void>;
  /** For sessions that this head opened; must be quick and not throw. A session it no longer has is skipped. */
  deliver(items: readonly ToSession[]): void;
  health(): HealthReport;
}
