// Errors of the hub as AMQP has them (contract/service-02-errors.md, section 3).

import {
  iotHubError,
  iotHubErrorOf,
  plainErrorBody,
  randomUuid,
  trackingId,
  type AmqpError,
  type Clock,
  type EndReason,
} from '#sdk';

/** Anything thrown, with a JSON description that says when and what. */
export function amqpErrorOf(error: unknown, clock: Clock): AmqpError {
  const fault = iotHubErrorOf(error);
  const id = randomUuid().replaceAll('-', '').toUpperCase();
  const wallMs = clock.wallMs();
  return {
    condition: fault.amqpCondition,
    description: plainErrorBody(fault, id, wallMs),
    info: { 'com.microsoft:tracking-id': trackingId(id, wallMs), 'com.microsoft:error-code': fault.code },
  };
}

/** Why the hub ended a session, in the service's words. */
export function endError(reason: EndReason): Error {
  switch (reason) {
    case 'displaced':
      return iotHubError('LinkCreationConflict', 'The device connected anew; this connection is given up.');
    case 'deleted':
      return iotHubError('DeviceNotFound', 'The device is not registered any more.');
    case 'disabled':
      return iotHubError('DeviceDisabled', 'The device is disabled.');
    case 'expired':
      return iotHubError('IotHubUnauthorizedAccess', 'The token has expired.');
    case 'credential_revoked':
      return iotHubError('IotHubUnauthorizedAccess', 'The credential is no longer valid.');
    case 'stopping':
      return iotHubError('ServiceUnavailable', 'The hub stops.');
    case 'closed':
    case 'lost':
    case 'misbehaved':
      return iotHubError('DeviceConnectionClosedRemotely', 'The session is over.');
  }
}

/** An address that this side of the hub does not have. */
export function noSuchAddress(address: string | undefined): Error {
  const shown = (address ?? '').slice(0, 300);
  return iotHubError('AmqpAddressNotFound', `The link address '${shown}' did not match any of the expected formats.`);
}
