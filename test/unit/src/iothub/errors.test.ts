import { describe, expect, it } from 'vitest';
import { GatewayError } from '../../../../src/core/errors.ts';
import {
  httpErrorBody,
  IOT_HUB_ERRORS,
  iotHubError,
  iotHubErrorName,
  iotHubErrorOf,
  nestedErrorBody,
  plainErrorBody,
} from '../../../../src/iothub/errors.ts';

const ID = '0123456789abcdef0123456789abcdef';
const NOON = Date.UTC(2026, 10, 21, 12, 34, 56, 789);

describe('the catalogue', () => {
  it('has six digits that begin with an HTTP status', () => {
    for (const number of Object.values(IOT_HUB_ERRORS)) {
      expect(number).toBeGreaterThanOrEqual(400_000);
      expect(number).toBeLessThan(505_000);
    }
  });

  it.each([
    ['DeviceNotFound', 404_001, 404, 'amqp:not-found'],
    ['ModuleNotFound', 404_010, 404, 'amqp:not-found'],
    ['DeviceAlreadyExists', 409_001, 409, 'com.microsoft:device-already-exists'],
    ['PreconditionFailed', 412_001, 412, 'com.microsoft:precondition-failed'],
    ['DeviceMessageLockLost', 412_002, 412, 'com.microsoft:message-lock-lost'],
    ['DeviceMaximumQueueDepthExceeded', 403_004, 403, 'amqp:resource-limit-exceeded'],
    ['IotHubUnauthorizedAccess', 401_002, 401, 'amqp:unauthorized-access'],
    ['DeviceDisabled', 403_012, 403, 'amqp:unauthorized-access'],
    ['MessageTooLarge', 413_001, 413, 'amqp:link:message-size-exceeded'],
    ['ThrottlingException', 429_001, 429, 'com.microsoft:device-container-throttled'],
    ['TooManyDevices', 413_002, 403, 'amqp:resource-limit-exceeded'],
    ['GatewayTimeout', 504_101, 504, 'com.microsoft:timeout'],
    ['ServerError', 500_001, 500, 'amqp:internal-error'],
  ] as const)('%s is %i, HTTP %i and %s', (name, code, httpStatus, amqpCondition) => {
    expect(iotHubErrorOf(iotHubError(name, 'text'))).toMatchObject({ name, code, httpStatus, amqpCondition });
  });
});

describe('iotHubErrorOf', () => {
  it('keeps name, text and facts of what the hub refused', () => {
    const error = iotHubError('PreconditionFailed', 'The version did not match.', { existingVersion: 3 });
    expect(iotHubErrorName(error)).toBe('PreconditionFailed');
    expect(iotHubErrorOf(error)).toMatchObject({
      message: 'The version did not match.',
      info: { existingVersion: 3 },
    });
  });

  it('tells nothing of the inside of the gateway', () => {
    const lost = iotHubErrorOf(new GatewayError('GW_STORE_WRITE', 'cannot write /data/db/hub'));
    expect(lost).toMatchObject({ name: 'ServiceUnavailable', httpStatus: 503 });
    expect(iotHubErrorOf(new Error('secret'))).toMatchObject({ name: 'ServerError', httpStatus: 500 });
    expect(JSON.stringify([lost, iotHubErrorOf(new Error('secret'))])).not.toMatch(/secret|\/data/);
  });

  it('asks to slow down when the outbox is full', () => {
    expect(iotHubErrorOf(new GatewayError('GW_OUTBOX_FULL', 'full')).name).toBe('ThrottlingException');
  });

  it('does not believe a name that is no own key of the catalogue', () => {
    const forged = new GatewayError('GW_IOTHUB', 'x', { details: { iotHubError: 'toString' } });
    expect(iotHubErrorOf(forged).name).toBe('ServerError');
  });

  it('says whether to try again', () => {
    expect(iotHubError('ThrottlingException', '').kind).toBe('throttled');
    expect(iotHubError('ServiceUnavailable', '').kind).toBe('transient');
    expect(iotHubError('ArgumentInvalid', '').kind).toBe('invalid');
    expect(iotHubError('IotHubUnauthorized', '').kind).toBe('unauthorized');
  });
});

describe('bodies', () => {
  const fault = iotHubErrorOf(iotHubError('DeviceNotOnline', 'Timed out; waiting', { deviceId: 'd1' }));
  const tracking = `${ID}-G:0-TimeStamp:11/21/2026 12:34:56`;

  it('form A is read as the SDK for Node reads it', () => {
    const body = JSON.parse(httpErrorBody(fault, ID, NOON)) as { Message: string; ExceptionMessage: string };
    expect(body.Message.split(';')[0]?.split(':')[1]).toBe('DeviceNotOnline');
    expect(body.Message.split(';')[1]).toBe('Timed out');
    expect(body.ExceptionMessage).toBe(`Tracking ID:${tracking}`);
  });

  it('form B has form C as text inside', () => {
    const outer = JSON.parse(nestedErrorBody(fault, ID, NOON)) as { Message: string; ExceptionMessage: string };
    expect(outer.ExceptionMessage).toBe('');
    expect(outer.Message).toBe(plainErrorBody(fault, ID, NOON));
    expect(JSON.parse(outer.Message)).toEqual({
      errorCode: 404_103,
      trackingId: tracking,
      message: 'Timed out; waiting',
      info: { deviceId: 'd1' },
      timestampUtc: '2026-11-21T12:34:56.789Z',
    });
  });
});
