// Twins as a service has them (contract/service-04, section 1): what is desired of leaf devices at the gateway is written here.

import {
  IOT_HUB_ERRORS,
  iotHubError,
  type CloudIdentities,
  type GatewayError,
  type IotHubErrorName,
  type PolicyConnectionString,
} from '#sdk';
import type { CallService, ServiceAnswer } from './service-call.ts';

/** Tags and properties at their largest, with the metadata of each. */
const TWIN_BYTES = 512 * 1024;

export function createServiceTwins(
  call: CallService,
  policy: PolicyConnectionString,
): Required<Pick<CloudIdentities, 'askTwin'>> {
  return {
    async askTwin(deviceId, { method, update, ifMatch }, signal) {
      const answer = await call(
        {
          method,
          path: `/twins/${encodeURIComponent(deviceId)}`,
          ...(ifMatch !== undefined && { headers: { 'if-match': ifMatch === '*' ? '*' : `"${ifMatch}"` } }),
          body: update && { tags: update.tags, properties: { desired: update.desired } },
          maxBytes: TWIN_BYTES,
        },
        signal,
      );
      if (answer.status === 200) return answer.body;
      throw refusal(answer, policy);
    },
  };
}

/** What the hub says of an error that it does not name. */
const BY_STATUS: Readonly<Record<number, IotHubErrorName>> = {
  400: 'ArgumentInvalid',
  404: 'DeviceNotFound',
  412: 'PreconditionFailed',
  413: 'GenericRequestEntityTooLarge',
  429: 'ThrottlingException',
};

function refusal({ status, body }: ServiceAnswer, policy: PolicyConnectionString): GatewayError {
  const { hostName, sharedAccessKeyName } = policy;
  const told = (body as { readonly Message?: unknown } | null | undefined)?.Message;
  const [, given = '', text = ''] = /^ErrorCode:(\w+);?(.*)$/s.exec(typeof told === 'string' ? told : '') ?? [];
  const why = text === '' ? '' : `: ${text.replaceAll(/\p{Cc}+/gu, ' ').slice(0, 200)}`;
  // A full hub says 403 as well.
  if (status === 401 || (status === 403 && !given.includes('Quota'))) {
    const advice = `The gateway's policy "${sharedAccessKeyName}" there needs the right ServiceConnect, and a key and a clock that are right.`;
    return iotHubError('ServiceUnavailable', `${hostName} does not let the gateway write twins (${status}). ${advice}`);
  }
  const name = isNameOf(given, status) ? given : (BY_STATUS[status] ?? 'ServiceUnavailable');
  return iotHubError(name, `${hostName} refused this (${status}${why}).`);
}

function isNameOf(name: string, status: number): name is IotHubErrorName {
  const codes: Readonly<Record<string, number>> = IOT_HUB_ERRORS;
  return status < 500 && Object.hasOwn(codes, name) && Math.floor((codes[name] ?? 0) / 1000) === status;
}
