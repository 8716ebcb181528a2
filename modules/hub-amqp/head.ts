// The AMQP head of the local hub: takes connections of its doors, hands what the hub sends to the connection that has the
// session. Nothing of the hub is kept here.

import {
  createAmqpServer,
  hubDoors,
  LIMITS,
  randomUuid,
  type HeadContext,
  type HealthReport,
  type ProtocolHead,
  type SessionId,
} from '#sdk';
import { HubConnection, type ConnectionContext } from './connection.ts';
import { createPartitionReaders } from './partition-readers.ts';

/** Of the service (contract/device-amqp.md, section 3). */
const FRAME_BYTES = 65_536;
const MESSAGE_BYTES = 1_048_576;
const IDLE_MS = 240_000;

export function createAmqpHead(context: HeadContext): ProtocolHead {
  const { hub, clock, log } = context;
  const doors = hubDoors(context.doors);
  const connections = new Set<HubConnection>();
  const bySession = new Map<SessionId, HubConnection>();
  let onEmpty: (() => void) | undefined;
  let isStopping = false;

  const shared: ConnectionContext = {
    hub,
    clock,
    log,
    readers: createPartitionReaders(),
    reportRefusal: (reason, fields) => context.reportRefusal(reason, fields),
    onSession: (sessionId, connection) => void bySession.set(sessionId, connection),
    onSessionOver: (sessionId) => void bySession.delete(sessionId),
    onClosed(connection) {
      connections.delete(connection);
      if (connections.size === 0) onEmpty?.();
    },
  };

  return {
    async start() {
      const server = await createAmqpServer({
        containerId: `DeviceGateway_${randomUuid().replaceAll('-', '')}`,
        maxFrameBytes: FRAME_BYTES,
        maxMessageBytes: MESSAGE_BYTES,
        idleTimeoutMs: IDLE_MS,
        maxSessions: LIMITS.hub_amqp_sessions,
        maxLinks: LIMITS.hub_amqp_links,
        clock,
      });
      await doors.serve('amqp', (door) => {
        if (isStopping) door.destroy();
        else connections.add(new HubConnection(server, door, shared));
      });
    },
    async stop(signal) {
      isStopping = true;
      const gone = new Promise<void>((resolve) => {
        onEmpty = resolve;
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
      for (const connection of connections) connection.stop();
      if (connections.size > 0 && !signal.aborted) await gone;
      for (const connection of connections) connection.destroy();
    },
    deliver(items) {
      for (const item of items) bySession.get(item.sessionId)?.deliver(item);
    },
    health: (): HealthReport => doors.healthOf('amqp'),
  };
}
