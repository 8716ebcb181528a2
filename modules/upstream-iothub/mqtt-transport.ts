// The upstream transport to Azure IoT Hub over MQTT 3.1.1: one connection has one identity (contract/gateway.md, section 5), so the
// gateway's own carries all leaf devices that have none, and the others have connections of their own.

import {
  commandFilter,
  errorText,
  METHOD_FILTER,
  UPSTREAM_ENDPOINT,
  type CommandReceiver,
  type DeliveryResult,
  type DeviceId,
  type EndpointContext,
  type StoredMessage,
  type TwinReceiver,
  type UpstreamTransport,
} from '#sdk';
import { createHubCommands } from './commands.ts';
import type { IotHubUpstreamConfig } from './config.ts';
import { DeviceLinks, endOf, NEVER_OPENED, type OpenLinks } from './device-links.ts';
import { createHubDialer } from './hub-dialer.ts';
import { identityOf, type HubIdentity } from './identity.ts';
import { carrierOf, leafIdentity } from './leaf-devices.ts';
import { createMqttCommands, type MqttCommands } from './mqtt-commands.ts';
import { HubLink, type LinkOptions } from './mqtt-link.ts';
import { createMqttTwins, TWIN_FILTERS, type MqttTwins } from './mqtt-twins.ts';
import { connackError, createClosedReasons } from './refusals.ts';
import { sendByOwner } from './send-by-owner.ts';
import { followSessions } from './session-presence.ts';
import { createTelemetryEncoder } from './telemetry.ts';

/** Messages that are unanswered at once. */
const WINDOW = 64;
/** Messages that go well into one `send`. */
const BATCH_MESSAGES = 32;

/** @param recall has a device known that was somebody before; resolves whether it was. */
export function createMqttHubTransport(
  config: IotHubUpstreamConfig,
  context: EndpointContext,
  recall?: (deviceId: DeviceId) => Promise<boolean>,
): UpstreamTransport {
  const { clock, endpointName, gatewayId } = context;
  const identity = identityOf(config, gatewayId);
  const isWebSocket = config.protocol === 'mqtt_ws';
  const dialer = createHubDialer({ config, host: identity.dialHost, scheme: isWebSocket ? 'wss' : 'mqtts' });
  const window = config.window ?? WINDOW;
  const takesCommands = config.commands && endpointName === UPSTREAM_ENDPOINT;
  const closedReason = createClosedReasons(identity);
  const isByCertificate = identity.sharedAccessKey === undefined;
  let receiver: CommandReceiver | undefined;
  let twinReceiver: TwinReceiver | undefined;
  /** They know what was taken over all connections of a device. */
  const commands = new Map<DeviceId, MqttCommands>();
  let opened: OpenLinks<DeviceId, HubLink, HubLink> | undefined;

  const shared = {
    clock,
    dial: (who: HubIdentity, signal: AbortSignal) => dialer.dial(who, signal),
    webSocket: isWebSocket ? dialer.webSocket : undefined,
    keepAliveSecs: config.keepalive_secs,
    connectTimeoutMs: config.connect_timeout_ms,
    ackTimeoutMs: config.ack_timeout_ms,
    tokenLifetimeSecs: config.token_lifetime_secs,
    window,
  } satisfies Partial<LinkOptions>;

  const commandsOf = (ownerId: DeviceId): MqttCommands | undefined => {
    if (receiver === undefined) return undefined;
    const leaf = ownerId === gatewayId ? {} : { leafId: ownerId };
    const known =
      commands.get(ownerId) ?? createMqttCommands(createHubCommands({ gatewayId, ...leaf, clock, receiver }), clock);
    commands.set(ownerId, known);
    return known;
  };

  const carrier = (deviceId: string): DeviceId => carrierOf(config.leaf_devices, { gatewayId, identity }, deviceId);

  const twinsOf = (ownerId: DeviceId): MqttTwins | undefined =>
    twinReceiver === undefined
      ? undefined
      : createMqttTwins({
          deviceId: ownerId,
          carries: (leafId) => carrier(leafId) === ownerId,
          receiver: twinReceiver,
          clock,
        });

  /** @param ownerId whose identity it is, on this side. */
  const createLink = (ownerId: DeviceId, who: HubIdentity, why: LinkOptions['closedReason']): HubLink => {
    const down = commandsOf(ownerId);
    const sessions = ownerId !== gatewayId && receiver?.sessions?.has(ownerId) === true ? receiver.sessions : undefined;
    const twins = twinsOf(ownerId);
    /** Messages wait at the hub for one that is there and takes none; without methods the hub says that it is not there. */
    const filters = (): readonly (readonly [string, 0 | 1])[] => [
      ...(down === undefined || (sessions?.isConnected(ownerId) === true && !sessions.takesCommands(ownerId))
        ? []
        : [[commandFilter(who.deviceId), 1] as const]),
      ...(down === undefined || sessions?.takesMethods(ownerId) === false ? [] : [[METHOD_FILTER, 0] as const]),
      ...(twins === undefined ? [] : TWIN_FILTERS),
    ];
    return new HubLink({
      ...shared,
      identity: who,
      encode: createTelemetryEncoder({ deviceId: who.deviceId, ownerId }),
      filters,
      onSubscribed: (from) => twins?.open(from),
      onMessage: (message, from) =>
        twins?.take(message) === true ? Promise.resolve() : (down?.take(message, from) ?? Promise.resolve()),
      // A leaf device's token is by the clock that has let the gateway in by its own.
      refused: (code) => connackError(code, who, ownerId === gatewayId || isByCertificate ? clock : undefined),
      onNotSubscribed: (error) => receiver?.onIgnored('not_subscribed', { device: ownerId, error: errorText(error) }),
      closedReason: why,
    });
  };

  const send = (batch: readonly StoredMessage[], signal: AbortSignal): Promise<readonly DeliveryResult[]> => {
    if (opened === undefined) return Promise.resolve(batch.map(() => ({ status: 'retry' as const, ...NEVER_OPENED })));
    const { own: link, others: leaves } = opened;
    return sendByOwner(
      batch,
      ({ message }) => carrier(message.deviceId),
      (ownerId, part) => (ownerId === gatewayId ? link.send(part, signal) : leaves.send(ownerId, part, signal)),
    );
  };

  return {
    target: dialer.target,
    capabilities: {
      // MQTT 3.1.1: the hub ends the connection instead.
      negativeAcknowledgement: false,
      window,
      batchMessages: BATCH_MESSAGES,
      multiplexesIdentities: false,
      twins: takesCommands,
      methods: takesCommands,
      commands: takesCommands,
    },
    probe: dialer.probe,
    open: async (signal) => {
      const link = createLink(gatewayId, identity, closedReason);
      await link.open(signal);
      const leaves = new DeviceLinks((deviceId: DeviceId) => {
        const who = leafIdentity(config.leaf_devices, identity, deviceId);
        return createLink(deviceId, who, createClosedReasons(who));
      });
      opened = { own: link, others: leaves };
      const ended = new AbortController();
      void link.closed.then(() => {
        ended.abort();
        return leaves.end();
      });
      if (receiver?.sessions === undefined) return;
      followSessions({
        sessions: receiver.sessions,
        isItself: async (deviceId) => carrier(deviceId) !== gatewayId || (await recall?.(deviceId)) === true,
        reach: (deviceId) => leaves.reach(deviceId),
        clock,
        signal: ended.signal,
      });
    },
    ...(takesCommands && {
      receiveCommands: (given: CommandReceiver) => {
        receiver = given;
      },
      receiveTwins: (given: TwinReceiver) => {
        twinReceiver = given;
      },
    }),
    send,
    ...endOf(() => opened),
  };
}
