// Calls of a service to a hub over HTTPS (contract/service-01, sections 1 and 2), with the rights of a policy.

import { request } from 'node:http';
import type { Socket } from 'node:net';
import { errorText, GatewayError, hmacSha256, makeSasToken, type Clock, type PolicyConnectionString } from '#sdk';

const API_VERSION = '2021-04-12';
const TOKEN_LIFETIME_MS = 3_600_000;

export interface ServiceRequest {
  readonly method: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: object | undefined;
  /** Of the answer; a longer one is none. */
  readonly maxBytes: number;
}

export interface ServiceAnswer {
  readonly status: number;
  /** Undefined where it is no JSON. */
  readonly body: unknown;
  readonly retryAfterMs: number | undefined;
}

/** Resolves with whatever the hub answers. @throws GatewayError GW_CONNECT, as `dial`. */
export type CallService = (asked: ServiceRequest, signal: AbortSignal) => Promise<ServiceAnswer>;

export interface ServiceCallOptions {
  readonly policy: PolicyConnectionString;
  /** A TLS connection to the hub's port for HTTPS. */
  readonly dial: (signal: AbortSignal) => Promise<Socket>;
  readonly clock: Clock;
}

export function createServiceCall({ policy, dial, clock }: ServiceCallOptions): CallService {
  const { hostName, sharedAccessKey: key, sharedAccessKeyName } = policy;
  return async ({ path, headers, ...asked }, signal) => {
    const expiresAtMs = clock.wallMs() + TOKEN_LIFETIME_MS;
    const token = makeSasToken({ resource: hostName, key, policy: sharedAccessKeyName, expiresAtMs }, { hmacSha256 });
    const socket = await dial(signal);
    try {
      return await exchange(socket, {
        ...asked,
        path: `${path}?api-version=${API_VERSION}`,
        headers: { ...headers, host: hostName, authorization: token, connection: 'close' },
        signal,
      });
    } catch (cause) {
      throw new GatewayError('GW_CONNECT', `${hostName} did not answer over HTTPS: ${errorText(cause)}.`, { cause });
    } finally {
      socket.destroy();
    }
  };
}

interface ExchangeOptions extends ServiceRequest {
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

function exchange(socket: Socket, { body, headers, maxBytes, ...options }: ExchangeOptions): Promise<ServiceAnswer> {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const sized =
      text === undefined
        ? headers
        : { ...headers, 'content-type': 'application/json; charset=utf-8', 'content-length': Buffer.byteLength(text) };
    // The TLS connection stands: what is spoken on it is plain HTTP.
    const asked = request({ ...options, headers: sized, createConnection: () => socket });
    asked.on('error', reject);
    asked.on('response', (response) => {
      let answer = '';
      response.setEncoding('utf8');
      response.on('error', reject);
      response.on('data', (chunk: string) => {
        answer += chunk;
        if (answer.length > maxBytes) asked.destroy(new Error('its answer is too long'));
      });
      response.on('end', () => {
        const seconds = Number(response.headers['retry-after']);
        const retryAfterMs = seconds > 0 ? seconds * 1000 : undefined;
        resolve({ status: response.statusCode ?? 0, body: jsonOf(answer), retryAfterMs });
      });
    });
    asked.end(text);
  });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
