// From a host name to a socket that is ready for a protocol: TCP or a proxy's tunnel, then TLS where it is wanted.

import type { Socket } from 'node:net';
import { connectThroughProxy } from './proxy.ts';
import { connectTcp } from './tcp.ts';
import { startTls, type TlsIdentity } from './tls.ts';

export interface DialOptions {
  readonly host: string;
  readonly port: number;
  /** An HTTP proxy to go through. */
  readonly proxy?: {
    readonly host: string;
    readonly port: number;
    readonly username?: string;
    readonly password?: string;
  };
  /** Of each step. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** TCP, through the proxy where there is one. @throws GatewayError as `connectTcp` and `connectThroughProxy`. */
export function dial({ proxy, ...target }: DialOptions): Promise<Socket> {
  if (proxy === undefined) return connectTcp(target);
  const { host, port, ...credentials } = proxy;
  return connectThroughProxy({ proxyHost: host, proxyPort: port, ...credentials, ...target });
}

/**
 * Whether `dial` has somebody to talk to, by a bare TCP connect: to the proxy where there is one, because to ask it for a
 * tunnel takes credentials, and each refusal of these counts. @throws GatewayError as `connectTcp`.
 */
export async function probeDial({ host, port, proxy, timeoutMs, signal }: DialOptions): Promise<void> {
  const socket = await connectTcp({ host: proxy?.host ?? host, port: proxy?.port ?? port, timeoutMs, signal });
  // What is given up must not become an uncaught exception.
  socket.on('error', () => {});
  socket.destroy();
}

/** `dial` with TLS on it. @throws GatewayError as `dial` and `startTls`. */
export async function dialTls(
  options: DialOptions & { readonly tls: TlsIdentity & { readonly alpn?: readonly string[] } },
): Promise<Socket> {
  const { tls, ...rest } = options;
  return startTls(await dial(rest), { ...tls, host: rest.host, timeoutMs: rest.timeoutMs, signal: rest.signal });
}

/** Whether a host is this machine itself, so that plaintext to it does not leave the box. */
export function isLoopbackHost(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase();
  return bare === 'localhost' || bare.endsWith('.localhost') || bare === '::1' || /^127(?:\.\d{1,3}){3}$/.test(bare);
}
