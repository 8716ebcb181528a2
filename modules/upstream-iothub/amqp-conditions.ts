// What the conditions of Azure IoT Hub mean (contract/device-amqp.md, section 9; contract/service-02-errors.md, section 3).

import { amqpConditions, type AmqpConditions, type AmqpError, type GatewayError } from '#sdk';

/** Instead of a link: its identity has no token. */
export interface TokenRefused extends AmqpError {
  readonly refusal: GatewayError;
}

const UNAUTHORIZED = 'amqp:unauthorized-access';

const conditions = amqpConditions({
  peer: 'hub',
  limitsAll: true,
  kinds: {
    // The device is not there any more, or never was.
    'amqp:not-found': 'unauthorized',
    'com.microsoft:iot-hub-not-found-error': 'unauthorized',
    // An argument that the hub does not take.
    'amqp:not-allowed': undefined,
    'com.microsoft:device-container-throttled': 'throttled',
    'com.microsoft:quota-exceeded': 'throttled',
    'com.microsoft:iot-hub-suspended': 'throttled',
    'amqp:link:detach-forced': 'throttled',
    'com.microsoft:timeout': 'timeout',
    'amqp:internal-error': 'transient',
  },
});

export const hubConditions: AmqpConditions = {
  ...conditions,
  linkEnd(address, error) {
    if (error === undefined || !('refusal' in error)) return conditions.linkEnd(address, error);
    const { kind, message } = (error as TokenRefused).refusal;
    return { kind: kind === 'unauthorized' ? kind : 'transient', reason: message, isSize: false, isPlace: true };
  },
};

/** Whether a link ended because the hub does not take its identity's token, perhaps not any more. */
export function isUnauthorized(error: AmqpError | undefined): boolean {
  return error?.condition === UNAUTHORIZED;
}

/** As the end of a link that was never opened. */
export function tokenRefused(refusal: GatewayError): TokenRefused {
  return { condition: UNAUTHORIZED, description: refusal.message, refusal };
}
