// The upstream transport to Azure IoT Hub over AMQP: one connection carries the gateway and all leaf devices, each under its own
// identity; more are made where one takes no more, and for devices that certificates prove.

import {
  UPSTREAM_ENDPOINT,
  type CommandReceiver,
  type DeliveryResult,
  type DeviceId,
  type EndpointContext,
  type StoredMessage,
  type TwinReceiver,
  type UpstreamTransport,
} from '#sdk';
import { AmqpHubLink } from './amqp-link.ts';
import type { IotHubUpstreamConfig } from './config.ts';
import { connectionPlaces, OWN_CONNECTION } from './connection-places.ts';
import { DeviceLinks, endOf, NEVER_OPENED, type OpenLinks } from './device-links.ts';
import { createHubDialer } from './hub-dialer.ts';
import { identityOf as gatewayIdentityOf, type HubIdentity } from './identity.ts';
import { carrierOf as carrierOfDevice, configuredDevices, leafIdentity } from './leaf-devices.ts';
import { sendByOwner } from './send-by-owner.ts';
import { followSessions } from './session-presence.ts';

/** Messages that are unanswered at once. */
const WINDOW = 1024;
/** Messages that go well into one `send`: as many as into one batch. */
const BATCH_MESSAGES = 100;
const MAX_DEVICES = 995;
const LINK_IDLE_SECS = 300;

/** @param recall has a device known that was somebody before; resolves whether it was. */
export function createAmqpHubTransport(
  config: IotHubUpstreamConfig,
  context: EndpointContext,
  recall?: (deviceId: DeviceId) => Promise<boolean>,
): UpstreamTransport {
  const { clock, endpointName, gatewayId, log } = context;
  const gateway = gatewayIdentityOf(config, gatewayId);
  const isWebSocket = config.protocol === 'amqp_ws';
  const dialer = createHubDialer({ config, host: gateway.dialHost, scheme: isWebSocket ? 'wss' : 'amqps' });
  const window = config.window ?? WINDOW;
  const identities = new Map<DeviceId, HubIdentity>([[gatewayId, gateway]]);
  const isByRegistry = config.leaf_devices.identity === 'registry';
  const identityOf = (carrierId: DeviceId): HubIdentity => {
    // The registry may give a device another key; the others' never change.
    const known = isByRegistry && carrierId !== gatewayId ? undefined : identities.get(carrierId);
    const identity = known ?? leafIdentity(config.leaf_devices, gateway, carrierId);
    identities.set(carrierId, identity);
    return identity;
  };
  const carrierOf = (deviceId: string): DeviceId =>
    carrierOfDevice(config.leaf_devices, { gatewayId, identity: gateway }, deviceId);
  const places = connectionPlaces({ gatewayId, identityOf, max: config.max_devices_per_connection ?? MAX_DEVICES });
  const takesCommands = config.commands && endpointName === UPSTREAM_ENDPOINT;
  let receiver: CommandReceiver | undefined;
  let twinReceiver: TwinReceiver | undefined;
  let opened: OpenLinks<string, AmqpHubLink> | undefined;

  /** Those that are listened to: named in the configuration, or heard of since the start. */
  const known = new Set<DeviceId>([gatewayId, ...configuredDevices(config.leaf_devices).map(carrierOf)]);

  const createLink = (place: string, login: HubIdentity | undefined): AmqpHubLink =>
    new AmqpHubLink({
      receiver,
      twinReceiver,
      gatewayId,
      listeners: () => known.values().filter((carrierId) => places.placeOf(carrierId) === place),
      dialer,
      isWebSocket,
      containerId: endpointName === UPSTREAM_ENDPOINT ? gatewayId : `${gatewayId}-${endpointName}`,
      host: gateway.dialHost,
      login,
      loginClock: clock,
      carrierOf,
      identityOf,
      onlyCarrier: config.leaf_devices.identity === 'gateway' ? gatewayId : undefined,
      window,
      connectTimeoutMs: config.connect_timeout_ms,
      ackTimeoutMs: config.ack_timeout_ms,
      // Asked for a sign of life twice as often as it is given up.
      idleTimeoutMs: 2 * config.keepalive_secs * 1000,
      linkIdleMs: (config.link_idle_secs ?? LINK_IDLE_SECS) * 1000,
      tokenLifetimeMs: config.token_lifetime_secs * 1000,
      onRefused: (device, reason) => log.warn({ device, reason }, 'A device is refused by the hub; it is tried again.'),
      clock,
    });

  const send = (batch: readonly StoredMessage[], signal: AbortSignal): Promise<readonly DeliveryResult[]> => {
    if (opened === undefined) return Promise.resolve(batch.map(() => ({ status: 'retry' as const, ...NEVER_OPENED })));
    const { others, own } = opened;
    return sendByOwner(
      batch,
      ({ message }) => {
        const carrierId = carrierOf(message.deviceId);
        known.add(carrierId);
        return places.placeOf(carrierId);
      },
      (place, part) => (place === OWN_CONNECTION ? own.send(part, signal) : others.send(place, part, signal)),
    );
  };

  return {
    target: dialer.target,
    capabilities: {
      negativeAcknowledgement: true,
      window,
      batchMessages: BATCH_MESSAGES,
      multiplexesIdentities: true,
      twins: takesCommands,
      methods: takesCommands,
      commands: takesCommands,
    },
    get waiting() {
      return opened?.own.stuck;
    },
    get isSilent() {
      return opened?.own.isSilent;
    },
    probe: dialer.probe,
    open: async (signal) => {
      const own = createLink(OWN_CONNECTION, gateway);
      await own.open(signal);
      const others = new DeviceLinks((place: string) => createLink(place, places.loginOf(place)));
      opened = { own, others };
      const ended = new AbortController();
      void own.closed.then(() => {
        ended.abort();
        return others.end();
      });
      if (receiver?.sessions === undefined) return;
      followSessions({
        sessions: receiver.sessions,
        isItself: async (deviceId) => carrierOf(deviceId) !== gatewayId || (await recall?.(deviceId)) === true,
        reach: async (deviceId) => {
          known.add(deviceId);
          const place = places.placeOf(deviceId);
          const link = place === OWN_CONNECTION ? own : await others.reach(place);
          return link.listen(deviceId);
        },
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
