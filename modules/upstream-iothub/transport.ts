// The upstream transport to Azure IoT Hub over MQTT 3.1.1: one connection has one identity, so the gateway's own carries all leaf
// devices (contract/gateway.md, section 5).

import {
  commandFilter,
  dialTls,
  errorText,
  httpProxyAddress,
  METHOD_FILTER,
  probeDial,
  UPSTREAM_ENDPOINT,
  type CommandReceiver,
  type EndpointClosed,
  type EndpointContext,
  type UpstreamTransport,
} from '#sdk';
import { createHubCommands, type HubCommands } from './commands.ts';
import type { IotHubUpstreamConfig } from './config.ts';
import { identityOf } from './identity.ts';
import { HubLink } from './link.ts';
import { createClosedReasons } from './refusals.ts';
import { createTelemetryEncoder } from './telemetry.ts';

/** Messages that go well into one `send`. */
const BATCH_MESSAGES = 32;
/** contract/device-mqtt.md, section 1. */
const WEB_SOCKET_PATH = '/$iothub/websocket';
const NEVER_OPENED: EndpointClosed = { kind: 'transient', reason: 'There is no connection.' };

export function createIotHubTransport(config: IotHubUpstreamConfig, context: EndpointContext): UpstreamTransport {
  const { clock, endpointName, gatewayId } = context;
  const identity = identityOf(config, gatewayId);
  const isWebSocket = config.protocol === 'mqtt_ws';
  const port = config.port ?? (isWebSocket ? 443 : 8883);
  const target = `${isWebSocket ? 'wss' : 'mqtts'}://${identity.dialHost}:${port}`;
  const takesCommands = config.commands && endpointName === UPSTREAM_ENDPOINT;
  const closedReason = createClosedReasons(identity);
  const encode = createTelemetryEncoder({ deviceId: identity.deviceId, gatewayId });
  let receiver: CommandReceiver | undefined;
  let commands: HubCommands | undefined;
  let link: HubLink | undefined;

  const dialOptions = (signal: AbortSignal): Parameters<typeof probeDial>[0] => ({
    host: identity.dialHost,
    port,
    ...(config.proxy !== undefined && { proxy: httpProxyAddress(config.proxy) }),
    timeoutMs: config.connect_timeout_ms,
    signal,
  });
  const tls = {
    ...(config.ca !== undefined && { ca: config.ca }),
    ...(config.certificate !== undefined && { certificate: config.certificate }),
    ...(config.key !== undefined && { key: config.key }),
  };

  const createLink = (): HubLink =>
    new HubLink({
      identity,
      clock,
      dial: (signal) => dialTls({ ...dialOptions(signal), tls }),
      webSocket: isWebSocket ? { path: WEB_SOCKET_PATH, host: identity.dialHost } : undefined,
      keepAliveSecs: config.keepalive_secs,
      connectTimeoutMs: config.connect_timeout_ms,
      ackTimeoutMs: config.ack_timeout_ms,
      tokenLifetimeSecs: config.token_lifetime_secs,
      window: config.window,
      encode,
      filters:
        commands === undefined
          ? []
          : [
              [commandFilter(identity.deviceId), 1],
              [METHOD_FILTER, 0],
            ],
      onMessage: (message, from) => commands?.take(message, from) ?? Promise.resolve(),
      onNotSubscribed: (error) => receiver?.onIgnored('not_subscribed', { error: errorText(error) }),
      closedReason,
    });

  return {
    target,
    capabilities: {
      // MQTT 3.1.1: the hub ends the connection instead.
      negativeAcknowledgement: false,
      window: config.window,
      batchMessages: BATCH_MESSAGES,
      multiplexesIdentities: false,
      twins: false,
      methods: takesCommands,
      commands: takesCommands,
    },
    probe: (signal) => probeDial(dialOptions(signal)),
    open: async (signal) => {
      const opened = createLink();
      await opened.open(signal);
      link = opened;
    },
    ...(takesCommands && {
      receiveCommands: (given: CommandReceiver) => {
        receiver = given;
        commands = createHubCommands({ gatewayId, clock, receiver: given });
      },
    }),
    closed: () => link?.closed ?? Promise.resolve(NEVER_OPENED),
    send: (batch, signal) =>
      link?.send(batch, signal) ?? Promise.resolve(batch.map(() => ({ status: 'retry' as const, ...NEVER_OPENED }))),
    close: async () => {
      await link?.end();
    },
    cut: (reason) => link?.cut(reason),
  };
}
