// The local broker as an upstream transport: connected while it listens.

import {
  ACCEPTED,
  type CommandReceiver,
  type DeliveryResult,
  type EndpointClosed,
  type EndpointContext,
  type IncomingCommand,
  type OutgoingAnswer,
  type StoredMessage,
  UPSTREAM_ENDPOINT,
  type UpstreamTransport,
} from '#sdk';
import { startLocalBroker, type LocalBroker, type LocalPublish } from './broker.ts';
import type { LocalUpstreamConfig } from './config.ts';

const CLOSED: EndpointClosed = { kind: 'transient', reason: 'The local broker does not listen.' };
const NOT_SENT: DeliveryResult = Object.freeze({ status: 'retry', ...CLOSED });

export function createLocalTransport(
  config: LocalUpstreamConfig,
  { gatewayId, endpointName }: EndpointContext,
): UpstreamTransport {
  const takesCommands = config.commands && endpointName === UPSTREAM_ENDPOINT;
  let receiver: CommandReceiver | undefined;
  const { address, port } = config.listen;
  let broker: LocalBroker | undefined;
  let closed: Promise<EndpointClosed> = Promise.resolve(CLOSED);
  // Publishing in the order of the calls: each send waits for the one before it.
  let previous: Promise<unknown> = Promise.resolve();

  const deliver = async (batch: readonly StoredMessage[], signal: AbortSignal): Promise<readonly DeliveryResult[]> => {
    const results: DeliveryResult[] = [];
    for (const { message } of batch) {
      if (broker === undefined || signal.aborted) {
        results.push(NOT_SENT);
        continue;
      }
      try {
        await broker.publish(`fieldpost/${gatewayId}/${message.deviceId}/telemetry`, message.body);
        results.push(ACCEPTED);
      } catch {
        results.push(NOT_SENT);
      }
    }
    return results;
  };

  const take = ({ topic, payload, retain }: LocalPublish): boolean => {
    const [root, gateway, deviceId = '', kind, command = '', ...more] = topic.split('/');
    const isCommand = root === 'fieldpost' && gateway === gatewayId && kind === 'command' && more.length === 0;
    if (receiver === undefined || !isCommand || deviceId === '' || command === '') return false;
    if (retain) receiver.onIgnored('retained', { topic });
    else receiver.onCommand({ deviceId, command, payload });
    return true;
  };

  const answer = async ({ deviceId }: IncomingCommand, { id = '_', body }: OutgoingAnswer): Promise<boolean> => {
    try {
      await broker?.publish(`fieldpost/${gatewayId}/${deviceId}/response/${id}`, body);
      return broker !== undefined;
    } catch {
      return false;
    }
  };

  return {
    target: `mqtt://${address}:${port}`,
    hint: `mosquitto_sub -h ${address} -p ${port} -t 'fieldpost/#' -v`,
    capabilities: {
      negativeAcknowledgement: true,
      window: 256,
      batchMessages: 64,
      multiplexesIdentities: false,
      twins: false,
      methods: false,
      commands: takesCommands,
    },
    // There is nothing to reach: it is part of the gateway.
    probe: () => Promise.resolve(),
    open: async () => {
      const opened = await startLocalBroker(address, port, take);
      broker = opened;
      closed = opened.closed.then(() => {
        broker = undefined;
        return CLOSED;
      });
    },
    ...(takesCommands && {
      receiveCommands: (given: CommandReceiver) => {
        receiver = given;
      },
      answer,
    }),
    closed: () => closed,
    send: (batch, signal) => {
      const sent = previous.then(() => deliver(batch, signal));
      previous = sent;
      return sent;
    },
    close: async () => {
      await broker?.close();
    },
  };
}
