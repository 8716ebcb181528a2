// The identity registry of a hub, over HTTPS (contract/service-03, sections 1 to 3): a device's identity, made where there is none.

import { GatewayError, type DeviceId, type DeviceKeys, type PolicyConnectionString } from '#sdk';
import type { CallService, ServiceAnswer } from './service-call.ts';

/** Of the whole call. */
const CALL_MS = 20_000;
const ANSWER_MAX_BYTES = 65_536;

export interface HubRegistry {
  /**
   * The keys of a device's identity, which is made where there is none.
   * @throws GatewayError GW_UNAUTHORIZED, GW_THROTTLED (`details.retryAfterMs` where the hub says it), GW_PROTOCOL, as `CallService`.
   */
  make(deviceId: DeviceId, signal: AbortSignal): Promise<DeviceKeys>;
  /** The same of an identity that is there, enabled and has keys; else undefined. @throws GatewayError as `make`. */
  find(deviceId: DeviceId, signal: AbortSignal): Promise<DeviceKeys | undefined>;
}

export function createHubRegistry(callService: CallService, policy: PolicyConnectionString): HubRegistry {
  const { hostName } = policy;

  const call = (
    method: 'GET' | 'PUT',
    deviceId: DeviceId,
    signal: AbortSignal,
    body?: object,
  ): Promise<ServiceAnswer> =>
    callService({ method, path: `/devices/${encodeURIComponent(deviceId)}`, body, maxBytes: ANSWER_MAX_BYTES }, signal);

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

function refusal({ status, body, retryAfterMs }: ServiceAnswer, policy: PolicyConnectionString, deviceId: DeviceId) {
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
