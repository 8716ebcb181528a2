import { describe, expect, it } from 'vitest';
import { iotHubErrorName } from '../../../../src/iothub/errors.ts';
import { parseEventsSelector } from '../../../../src/iothub/events-selector.ts';

describe('a filter of events', () => {
  it.each([
    [undefined, { kind: 'earliest' }],
    ["amqp.annotation.x-opt-offset > '-1'", { kind: 'earliest' }],
    ["amqp.annotation.x-opt-offset > '@latest'", { kind: 'latest' }],
    ["amqp.annotation.x-opt-offset > '12'", { kind: 'offset', value: 12, inclusive: false }],
    ["amqp.annotation.x-opt-offset >= '12'", { kind: 'offset', value: 12, inclusive: true }],
    ["amqp.annotation.x-opt-sequence-number > '0'", { kind: 'sequence', value: 0, inclusive: false }],
    ['amqp.annotation.x-opt-sequence-number >= 5', { kind: 'sequence', value: 5, inclusive: true }],
    ["amqp.annotation.x-opt-enqueued-time > '1795200824333'", { kind: 'time', afterMs: 1_795_200_824_333 }],
    ["amqp.annotation.x-opt-enqueued-time >= '1795200824333'", { kind: 'time', afterMs: 1_795_200_824_332 }],
    ["amqp.annotation.x-opt-enqueuedtimeutc > '7'", { kind: 'time', afterMs: 7 }],
  ])('%s is understood', (selector, position) => {
    expect(parseEventsSelector(selector)).toEqual(position);
  });

  it.each([
    'color = 1',
    "amqp.annotation.x-opt-offset > 'abc'",
    "amqp.annotation.x-opt-offset < '1'",
    "amqp.annotation.x-opt-enqueued-time > '@latest'",
    "amqp.annotation.x-opt-partition-key > '1'",
    "amqp.annotation.x-opt-offset > '9999999999999999'",
  ])('%s is refused', (selector) => {
    let thrown: unknown;
    try {
      parseEventsSelector(selector);
    } catch (error) {
      thrown = error;
    }
    expect(iotHubErrorName(thrown)).toBe('ArgumentInvalid');
  });
});
