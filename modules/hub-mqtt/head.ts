// The MQTT head: connections from the doors, and what the hub sends to their sessions.

import {
  hubDoors,
  LIMITS,
  loadMqttServer,
  type HeadContext,
  type HealthReport,
  type ProtocolHead,
  type SessionId,
  type ToSession,
} from '#sdk';
import { HubConnection } from './connection.ts';
import type { LeftIds } from './sent-commands.ts';

/** How often silent clients are looked for. */
const SWEEP_MS = 1000;

export function createMqttHead(context: HeadContext): ProtocolHead {
  return new MqttHead(context);
}

class MqttHead implements ProtocolHead {
  readonly #context: HeadContext;
  readonly #connections = new Set<HubConnection>();
  readonly #bySession = new Map<SessionId, HubConnection>();
  /** The last one of each client. */
  readonly #byClient = new Map<string, HubConnection>();
  /** Of clients that are away; the one that left last is the last. */
  readonly #left = new Map<string, LeftIds>();
  #cancelSweep: (() => void) | undefined;
  #isStopped = false;
  #emptied: (() => void) | undefined;

  constructor(context: HeadContext) {
    this.#context = context;
  }

  async start(signal: AbortSignal): Promise<void> {
    const packets = await loadMqttServer();
    signal.throwIfAborted();
    this.#sweep();
    await hubDoors(this.#context.doors).serve('mqtt', (door) => {
      if (this.#isStopped) {
        door.stream.on('error', () => {});
        door.destroy();
        return;
      }
      const connection = new HubConnection({
        door,
        context: this.#context,
        packets,
        takeLeftIds: (client) => this.#takeLeftIds(client),
        opened: (opened) => this.#opened(opened),
        ended: (ended) => this.#ended(ended),
      });
      this.#connections.add(connection);
    });
  }

  async stop(signal: AbortSignal): Promise<void> {
    this.#isStopped = true;
    this.#cancelSweep?.();
    const emptied = new Promise<void>((resolve) => (this.#emptied = resolve));
    for (const connection of this.#connections) connection.stopWhenIdle();
    if (this.#connections.size === 0) return;
    const endAll = (): void => {
      for (const connection of this.#connections) connection.end('stopping');
    };
    if (signal.aborted) endAll();
    signal.addEventListener('abort', endAll, { once: true });
    await emptied;
    signal.removeEventListener('abort', endAll);
  }

  deliver(items: readonly ToSession[]): void {
    for (const item of items) this.#bySession.get(item.sessionId)?.deliver(item);
  }

  health(): HealthReport {
    return hubDoors(this.#context.doors).healthOf('mqtt');
  }

  #sweep(): void {
    const nowMs = this.#context.clock.monotonicMs();
    for (const connection of this.#connections) connection.checkSilence(nowMs);
    this.#cancelSweep = this.#context.clock.after(SWEEP_MS, () => this.#sweep());
  }

  #takeLeftIds(client: string): LeftIds | undefined {
    // One that is displaced now ends only after this.
    const ids = this.#byClient.get(client)?.leftIds ?? this.#left.get(client);
    this.#left.delete(client);
    return ids;
  }

  #opened(connection: HubConnection): void {
    const { sessionId, client } = connection;
    if (sessionId === undefined || client === undefined) return;
    this.#bySession.set(sessionId, connection);
    this.#byClient.set(client, connection);
  }

  #ended(connection: HubConnection): void {
    const { sessionId, client, leftIds } = connection;
    this.#connections.delete(connection);
    if (sessionId !== undefined) this.#bySession.delete(sessionId);
    if (client !== undefined && this.#byClient.get(client) === connection) {
      this.#byClient.delete(client);
      if (leftIds !== undefined && leftIds.size > 0) this.#left.set(client, leftIds);
      const [oldest] = this.#left.keys();
      if (this.#left.size > LIMITS.hub_left_packets && oldest !== undefined) this.#left.delete(oldest);
    }
    if (this.#connections.size === 0) this.#emptied?.();
  }
}
