// The URL of a broker that a client connects to, and what can be wrong with a client's configuration whatever it speaks.

import { isIP } from 'node:net';
import { brokerUrl } from '../core/broker-client-fields.ts';
import { httpProxyFault } from '../core/http-proxy.ts';
import type { ConfigFault } from '../core/module.ts';
import { type dialTls, isLoopbackHost } from './dial.ts';

/** What the request for a WebSocket names. */
export interface WebSocketPlace {
  readonly path: string;
  /** As in a URL: an IPv6 address in brackets, and with the port where that is not the default (RFC 6455, section 4.1). */
  readonly host: string;
}

export function webSocketHost(host: string, port: number, secure: boolean): string {
  return port === (secure ? 443 : 80) ? urlHost(host) : `${urlHost(host)}:${port}`;
}

function urlHost(host: string): string {
  return isIP(host) === 6 ? `[${host}]` : host;
}

/** The URL in the parts that a connection needs. */
export interface BrokerAddress {
  readonly host: string;
  readonly port: number;
  readonly secure: boolean;
  /** Undefined without one. */
  readonly webSocket?: WebSocketPlace;
  /** For people, without credentials. */
  readonly target: string;
}

const SECURE: ReadonlySet<string> = new Set(['mqtts:', 'amqps:', 'wss:', 'amqpwss:']);

/** @param url a valid one, of MQTT, AMQP or a WebSocket */
export function brokerAddress(url: string): BrokerAddress {
  const { protocol, pathname, search } = new URL(url);
  const { host, port } = brokerUrl(url);
  const secure = SECURE.has(protocol);
  return {
    host,
    port,
    secure,
    ...(/wss?:$/.test(protocol) && {
      webSocket: { path: `${pathname === '' ? '/' : pathname}${search}`, host: webSocketHost(host, port, secure) },
    }),
    target: `${protocol}//${urlHost(host)}:${port}`,
  };
}

/** What is judged of a client, by the names of its fields. */
export interface BrokerClientConfig {
  readonly url: string;
  readonly allow_plaintext: boolean;
  readonly ca?: string | undefined;
  readonly certificate?: string | undefined;
  readonly key?: string | undefined;
  readonly server_name?: string | undefined;
  readonly alpn?: unknown;
  readonly proxy?: Parameters<typeof httpProxyFault>[0] | undefined;
}

/**
 * Faults that the schema cannot express.
 * @param secureScheme of the protocol: `mqtts`
 * @param pathHint what a path in the URL should have been: `the topic goes into \`topic\``
 */
export function brokerClientFaults(
  config: BrokerClientConfig,
  secureScheme: string,
  pathHint: string,
): readonly ConfigFault[] {
  const faults: ConfigFault[] = [];
  const fault = (field: string, message: string): void => void faults.push({ path: [field], message });
  const { pathname, username, password } = new URL(config.url);
  const { host, secure, webSocket } = brokerAddress(config.url);
  if (host === '') fault('url', 'has no host');
  if (username !== '' || password !== '') fault('url', 'must not hold credentials; use `username` and `password`');
  if (webSocket === undefined && pathname !== '' && pathname !== '/') {
    fault('url', `has a path, which only ws:// and wss:// may have; ${pathHint}`);
  }
  if (!secure && !config.allow_plaintext && !isLoopbackHost(host)) {
    fault(
      'url',
      `sends credentials and data in clear to ${host}; use ${secureScheme}:// or wss://, or set \`allow_plaintext: true\``,
    );
  }
  if (!secure) {
    for (const name of ['ca', 'certificate', 'key', 'server_name', 'alpn'] as const) {
      if (config[name] !== undefined) fault(name, `has no effect without ${secureScheme}:// or wss://`);
    }
  }
  if ((config.certificate === undefined) !== (config.key === undefined)) {
    const [has, lacks] = config.key === undefined ? ['certificate', 'key'] : ['key', 'certificate'];
    fault(has, `needs \`${lacks}\` as well`);
  }
  const proxyFault = config.proxy === undefined ? undefined : httpProxyFault(config.proxy);
  if (proxyFault !== undefined) faults.push({ path: ['proxy', 'url'], message: proxyFault });
  return faults;
}

/** Whom a client trusts and who it is, as a dial takes it. */
export function brokerTls(
  config: Pick<BrokerClientConfig, 'ca' | 'certificate' | 'key' | 'server_name'>,
): Parameters<typeof dialTls>[0]['tls'] {
  return {
    ...(config.ca !== undefined && { ca: config.ca }),
    ...(config.certificate !== undefined && { certificate: config.certificate }),
    ...(config.key !== undefined && { key: config.key }),
    ...(config.server_name !== undefined && { serverName: config.server_name }),
  };
}
