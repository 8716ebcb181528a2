// The listeners of the local hub as its protocol heads and its owner see them. `hub-listeners.ts` has them; it is loaded when
// there is a hub.

import type { RequestListener } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Clock } from '../core/clock.ts';
import { GatewayError } from '../core/errors.ts';
import type { HubProtocol } from '../core/hub/access.ts';
import type { Doors } from '../core/hub/head.ts';
import type { Logger } from '../core/log.ts';
import type { HealthReport } from '../core/service.ts';
import type { PeerFacts } from './hub-peer.ts';

/** The ports: `amqp` is the one without TLS. */
export type HubDoorName = 'mqtts' | 'amqps' | 'https' | 'amqp';

/** Counts what was turned away or broke off, by a stable reason. */
export type ReportRefusal = (reason: string, fields: Readonly<Record<string, unknown>>) => void;

export interface DoorConnection extends PeerFacts {
  /** Bytes of the protocol. Small writes of one turn of the event loop leave together. */
  readonly stream: Duplex;
  readonly protocol: Exclude<HubProtocol, 'https'>;
  /** On the port without TLS. */
  readonly isPlaintext: boolean;
  /** Of a WebSocket: `/$iothub/websocket` or `/$servicebus/websocket`. */
  readonly path?: string;
  /** Ends it at once, whatever it is made of. */
  destroy(): void;
}

/** What heads do with the doors. */
export interface HubDoors extends Doors {
  /** Takes all connections of one protocol, over TLS and WebSockets, and opens its ports. Once for each protocol. */
  serve(protocol: 'mqtt' | 'amqp', take: (connection: DoorConnection) => void): Promise<void>;
  /** Takes all requests over HTTPS, and opens that port. */
  serveHttp(listener: RequestListener): Promise<void>;
  /** How the ports of a protocol are. */
  healthOf(protocol: DoorProtocol): HealthReport;
}

export type DoorProtocol = 'mqtt' | 'amqp' | 'https';

/** The doors as their owner sees them. */
export interface HubDoorsService extends HubDoors {
  /**
   * Opens the ports of a protocol that nobody serves yet. The first client has `load` called, which is to end in `serve` or
   * `serveHttp` and must not reject; clients wait for that.
   */
  expect(protocol: DoorProtocol, load: () => Promise<void>): Promise<void>;
  /** New certificates for new connections; open ones stay. @throws GatewayError GW_TLS; the old ones are kept then. */
  replaceCertificates(certificates: readonly ServerCertificate[]): void;
  /** Where a door listens. */
  addressOf(door: HubDoorName): { readonly address: string; readonly port: number } | undefined;
  counts(): { readonly connections: number; readonly waiting: number };
  /** No new connections from now on. */
  stopAccepting(): Promise<void>;
  /** Ends every connection that is left. */
  close(): Promise<void>;
}

export interface ServerCertificate {
  /** PEM, with its chain. */
  readonly certificate: string;
  readonly key: string;
}

export interface HubDoorsOptions {
  readonly address: string;
  /** `amqp`: without TLS, on loopback only. */
  readonly ports: { readonly mqtts: number; readonly amqps: number; readonly https: number; readonly amqp?: number };
  /** One for each kind of key: clients differ in the ciphers that they know. */
  readonly certificates: readonly ServerCertificate[];
  /**
   * They are known to fit their keys, so that TLS, which takes some 2 MB, may wait for the first client. Default false: what is
   * wrong with them is found at once.
   */
  readonly areCertificatesProven?: boolean;
  readonly maxHandshakesPerSec: number;
  readonly clock: Clock;
  readonly log: Logger;
  readonly reportRefusal: ReportRefusal;
}

/** The doors as heads use them. @throws GatewayError GW_INTERNAL when these are none. */
export function hubDoors(doors: Doors): HubDoors {
  if ('serve' in doors && 'serveHttp' in doors) return doors as HubDoors;
  throw new GatewayError('GW_INTERNAL', 'A protocol head was given no doors.');
}
