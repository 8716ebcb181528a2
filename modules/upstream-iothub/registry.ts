// The identity registry of a hub, over HTTPS (contract/service-03, sections 1 to 3): a device's identity, made where there is none.

import { request } from 'node:http';
import type { Socket } from 'node:net';
import {
  errorText,
  GatewayError,
  hmacSha256,
  makeSasToken,
  type Clock,
  type DeviceId,
  type DeviceKeys,
  type PolicyConnectionString,
} from '#sdk';

const API_VERSION = '2021-04-12';
/** Of the whole call. */
const CALL_MS = 20_000;
const ANSWER_MAX_BYTES = 65_536;
const TOKEN_LIFETIME_MS = 3_600_000;

export interface RegistryOptions {
  readonly policy: PolicyConnectionString;
  /** A TLS connection to the hub's port for HTTPS. */
  readonly dial: (signal: AbortSignal) => Promise<Socket>;
  readonly clock: Clock;
}

export interface HubRegistry {
  /**
   * The keys of a device's identity, which is made where there is none.
   * @throws GatewayError GW_UNAUTHORIZED, GW_THROTTLED (`details.retryAfterMs` where the hub says it), GW_PROTOCOL, as `dial`.
   */
  make(deviceId: DeviceId, signal: AbortSignal): Promise<DeviceKeys>;
  /** The same of an identity that is there, enabled and has keys; else undefined. @throws GatewayError as `make`. */
  find(deviceId: DeviceId, signal: AbortSignal): Promise<DeviceKeys | undefined>;
}

interface Answer {
  readonly status: number;
  readonly body: unknown;
  readonly retryAfterMs: number | undefined;
}

export function createHubRegistry({ policy, dial, clock }: RegistryOptions): HubRegistry {
  const { hostName, sharedAccessKey: key, sharedAccessKeyName } = policy;

  async function call(method: 'GET' | 'PUT', deviceId: DeviceId, signal: AbortSignal, body?: object): Promise<Answer> {
    const expiresAtMs = clock.wallMs() + TOKEN_LIFETIME_MS;
    const token = makeSasToken({ resource: hostName, key, policy: sharedAccessKeyName, expiresAtMs }, { hmacSha256 });
    const socket = await dial(signal);
    try {
      return await exchange(socket, {
        method,
        path: `/devices/${encodeURIComponent(deviceId)}?api-version=${API_VERSION}`,
        headers: { host: hostName, authorization: token, connection: 'close' },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
      });
    } catch (cause) {
      throw new GatewayError('GW_CONNECT', `The registry of ${hostName} did not answer: ${errorText(cause)}.`, {
        cause,
      });
    } finally {
      socket.destroy();
    }
  }

  return {
    async find(deviceId, signal) {
      const answer = await call('GET', deviceId, AbortSignal.any([signal, AbortSignal.timeout(CALL_MS)]));
      if (answer.status === 404) return undefined;
      if (answer.status !== 200) throw refusal(answer, policy, deviceId);
      const { status } = answer.body as { readonly status?: unknown };
      return status === 'enabled' ? symmetricKeysOf(answer.body) : undefined;
    },
    async make(deviceId, signal) {
      const ending = AbortSignal.any([signal, AbortSignal.timeout(CALL_MS)]);
      // Without an If-Match, an identity that is there is never changed.
      const made = await call('PUT', deviceId, ending, {
        deviceId,
        status: 'enabled',
        authentication: { type: 'sas', symmetricKey: { primaryKey: '', secondaryKey: '' } },
      });
      const answer = made.status === 409 ? await call('GET', deviceId, ending) : made;
      if (answer.status !== 200 && answer.status !== 201) throw refusal(answer, policy, deviceId);
      const found = symmetricKeysOf(answer.body);
      if (found !== undefined) return found;
      const reason = `The identity of device "${deviceId}" at ${hostName} has no key: a certificate proves it. Give it under \`devices\`.`;
      throw new GatewayError('GW_UNAUTHORIZED', reason);
    },
  };
}

interface ExchangeOptions {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
  readonly signal: AbortSignal;
}

function exchange(socket: Socket, { body, headers, ...options }: ExchangeOptions): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sized =
      body === undefined
        ? headers
        : { ...headers, 'content-type': 'application/json; charset=utf-8', 'content-length': Buffer.byteLength(body) };
    // The TLS connection stands: what is spoken on it is plain HTTP.
    const asked = request({ ...options, headers: sized, createConnection: () => socket });
    asked.on('error', reject);
    asked.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('error', reject);
      response.on('data', (chunk: string) => {
        text += chunk;
        if (text.length > ANSWER_MAX_BYTES) asked.destroy(new Error('its answer is too long'));
      });
      response.on('end', () => {
        const seconds = Number(response.headers['retry-after']);
        const retryAfterMs = seconds > 0 ? seconds * 1000 : undefined;
        resolve({ status: response.statusCode ?? 0, body: jsonOf(text), retryAfterMs });
      });
    });
    asked.end(body);
  });
}

function refusal({ status, body, retryAfterMs }: Answer, policy: PolicyConnectionString, deviceId: DeviceId) {
  const { hostName, sharedAccessKeyName } = policy;
  const told = (body as { readonly Message?: unknown } | undefined)?.Message;
  const why = typeof told === 'string' ? `: ${told.replaceAll(/\p{Cc}+/gu, ' ').slice(0, 200)}` : '';
  const text = `The registry of ${hostName} gave no identity for device "${deviceId}" (${status}${why}).`;
  if (status === 429 || status === 503) {
    return new GatewayError('GW_THROTTLED', text, { details: { retryAfterMs } });
  }
  if (status === 401 || status === 403) {
    const advice = `The policy "${sharedAccessKeyName}" needs the rights to read and write the registry, its key, and a clock that is right here.`;
    return new GatewayError('GW_UNAUTHORIZED', `${text} ${advice}`);
  }
  return new GatewayError('GW_PROTOCOL', text);
}

function symmetricKeysOf(body: unknown): DeviceKeys | undefined {
  const { primaryKey, secondaryKey } =
    (body as { readonly authentication?: { readonly symmetricKey?: Readonly<Record<string, unknown>> | null } } | null)
      ?.authentication?.symmetricKey ?? {};
  if (typeof primaryKey !== 'string' || primaryKey === '') return undefined;
  return typeof secondaryKey === 'string' && secondaryKey !== '' ? [primaryKey, secondaryKey] : [primaryKey];
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
