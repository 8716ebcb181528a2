// The way to the hub: TCP, through a proxy where there is one, and TLS.

import { dialTls, httpProxyAddress, probeDial, webSocketHost } from '#sdk';
import type { IotHubUpstreamConfig } from './config.ts';
import type { HubIdentity } from './identity.ts';

export interface HubDialer {
  /** For people: `amqps://plant.azure-devices.net:5671`. */
  readonly target: string;
  /** Where WebSockets to the hub are opened, for either protocol. */
  readonly webSocket: { readonly path: string; readonly host: string };
  /** A bare connect. @throws GatewayError GW_CONNECT, GW_TIMEOUT. */
  readonly probe: (signal: AbortSignal) => Promise<void>;
  /** A socket with TLS done, with the identity's certificate where it has one. @throws GatewayError as `dialTls`. */
  readonly dial: (identity: HubIdentity | undefined, signal: AbortSignal) => ReturnType<typeof dialTls>;
}

export interface HubDialerOptions {
  readonly config: Pick<IotHubUpstreamConfig, 'ca' | 'connect_timeout_ms' | 'port' | 'proxy'>;
  readonly host: string;
  /** Of the URL shown to people. */
  readonly scheme: 'amqps' | 'mqtts' | 'wss';
}

/** contract/device-mqtt.md and device-amqp.md, section 1. */
const PORTS = { amqps: 5671, mqtts: 8883, wss: 443 } as const;

const WEB_SOCKET_PATH = '/$iothub/websocket';

export function createHubDialer({ config, host, scheme }: HubDialerOptions): HubDialer {
  const port = config.port ?? PORTS[scheme];
  const options = (signal: AbortSignal): Parameters<typeof probeDial>[0] => ({
    host,
    port,
    ...(config.proxy !== undefined && { proxy: httpProxyAddress(config.proxy) }),
    timeoutMs: config.connect_timeout_ms,
    signal,
  });
  return {
    target: `${scheme}://${host}:${port}`,
    webSocket: { path: WEB_SOCKET_PATH, host: webSocketHost(host, port, true) },
    probe: (signal) => probeDial(options(signal)),
    dial: (identity, signal) =>
      dialTls({
        ...options(signal),
        tls: {
          ...(config.ca !== undefined && { ca: config.ca }),
          ...(identity?.certificate !== undefined && { certificate: identity.certificate }),
          ...(identity?.privateKey !== undefined && { key: identity.privateKey }),
        },
      }),
  };
}
