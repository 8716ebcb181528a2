import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  commandFilter,
  twinGetTopic,
  twinReportTopic,
  commandTopic,
  desiredTopic,
  inputTopic,
  methodAnswerTopic,
  methodTopic,
  parseDeviceTopic,
  parseFilterTopic,
  parsePublishTopic,
  telemetryTopic,
  twinResponseTopic,
} from '../../../../src/iothub/topics.ts';
import { writePropertyBag } from '../../../../src/iothub/property-bag.ts';

describe('a topic that a device publishes to', () => {
  const bagOf = (topic: string) => {
    const parsed = parsePublishTopic(topic);
    return parsed?.kind === 'telemetry' ? { from: parsed.from, bag: Object.fromEntries(parsed.bag) } : parsed;
  };

  it.each([
    ['devices/d1/messages/events', {}],
    ['devices/d1/messages/events/', {}],
    ['devices/d1/messages/events/k=v', { k: 'v' }],
    ['devices/d1/messages/events/?k=v', { k: 'v' }],
    ['devices/d1/messages/events/%24.mid=m%201&k=a%26b', { '$.mid': 'm 1', k: 'a&b' }],
    ['devices/d1/messages/events/$.mid=m&k', { '$.mid': 'm', k: null }],
    ['devices/d1/messages/events/k=&k=2', { k: '2' }],
    ['devices/d1/messages/events/a%20b=c%26d&%24.ct=application%2fjson', { 'a b': 'c&d', '$.ct': 'application/json' }],
    ['devices/d1/messages/events/100%=50%', { '100%': '50%' }],
  ])('%s is telemetry', (topic, bag) => {
    expect(bagOf(topic)).toEqual({ from: { deviceId: 'd1' }, bag });
  });

  it('may end in a slash, as modules of Node and all of Java do', () => {
    expect(bagOf('devices/d1/modules/m1/messages/events/%24.on=out1&k=v/')).toEqual({
      from: { deviceId: 'd1', moduleId: 'm1' },
      bag: { '$.on': 'out1', k: 'v' },
    });
  });

  it.each([
    ['$iothub/twin/GET/?$rid=7', { kind: 'twin-get', requestId: '7' }],
    ['$iothub/twin/PATCH/properties/reported/?$rid=a-b', { kind: 'twin-report', requestId: 'a-b' }],
    [
      '$iothub/twin/PATCH/properties/reported/?$rid=1&$version=12',
      { kind: 'twin-report', requestId: '1', baseVersion: 12 },
    ],
    ['$iothub/methods/res/200/?$rid=1f', { kind: 'method-answer', requestId: '1f', status: 200 }],
    ['$iothub/methods/res/-3/?$rid=1f', { kind: 'method-answer', requestId: '1f', status: -3 }],
  ])('%s is understood', (topic, parsed) => {
    expect(parsePublishTopic(topic)).toEqual(parsed);
  });

  it.each([
    '',
    'devices/d1',
    'devices//messages/events/',
    'Devices/d1/messages/events/',
    'devices/d1/messages/eventsx',
    'devices/d1/messages/devicebound/',
    '$iothub/twin/GET/',
    '$iothub/twin/GET/?$rid=',
    '$iothub/twin/PATCH/properties/desired/?$rid=1',
    '$iothub/methods/res/ok/?$rid=1',
    '$iothub/methods/res/99999999999/?$rid=1',
    'sensors/1',
  ])('%s is not served', (topic) => {
    expect(parsePublishTopic(topic)).toBeUndefined();
  });

  it('gives back every bag that was written, and never throws', () => {
    const text = fc.string({ unit: 'grapheme', minLength: 1 });
    fc.assert(
      fc.property(fc.dictionary(text, fc.string({ unit: 'grapheme' })), (pairs) => {
        expect(bagOf(telemetryTopic({ deviceId: 'd1' }, writePropertyBag(Object.entries(pairs))))).toEqual({
          from: { deviceId: 'd1' },
          bag: pairs,
        });
      }),
    );
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (tail) => {
        parsePublishTopic(`devices/d1/messages/events/${tail}`);
        parsePublishTopic(`$iothub/${tail}`);
        parseFilterTopic(tail);
      }),
    );
  });
});

describe('a filter', () => {
  const module = { deviceId: 'd1', moduleId: 'm1' };
  it.each([
    ['devices/d1/messages/devicebound/#', { kind: 'commands', of: { deviceId: 'd1' } }],
    ['devices/d1/modules/m1/messages/devicebound/#', { kind: 'commands', of: module }],
    ['devices/d1/modules/m1/inputs/#', { kind: 'inputs', of: module }],
    ['devices/d1/modules/m1/#', { kind: 'inputs', of: module }],
    ['$iothub/twin/res/#', { kind: 'twin-responses' }],
    ['$iothub/twin/PATCH/properties/desired/#', { kind: 'desired' }],
    ['$iothub/methods/POST/#', { kind: 'methods' }],
  ])('%s is served', (filter, parsed) => {
    expect(parseFilterTopic(filter)).toEqual(parsed);
  });

  it.each(['#', '+', '$iothub/#', 'devices/d1/#', 'devices/d1/messages/devicebound', '$IoTHub/twin/res/#'])(
    '%s is not',
    (filter) => {
      expect(parseFilterTopic(filter)).toBeUndefined();
    },
  );
});

it('writes the topics that SDKs read', () => {
  const module = { deviceId: 'd1', moduleId: 'm1' };
  expect(commandTopic({ deviceId: 'd1' }, 'k=v')).toBe('devices/d1/messages/devicebound/k=v');
  expect(commandTopic(module, 'k=v')).toBe('devices/d1/modules/m1/messages/devicebound/k=v');
  expect(inputTopic(module, 'in 1', 'k=v')).toBe('devices/d1/modules/m1/inputs/in%201/k=v');
  expect(twinResponseTopic(200, 'r')).toBe('$iothub/twin/res/200/?$rid=r');
  expect(twinResponseTopic(204, 'r', 5)).toBe('$iothub/twin/res/204/?$rid=r&$version=5');
  expect(desiredTopic(5)).toBe('$iothub/twin/PATCH/properties/desired/?$version=5');
  expect(methodTopic('re%boot', '1')).toBe('$iothub/methods/POST/re%25boot/?$rid=1');
});

describe('a topic that a device hears', () => {
  it('is read as it was written', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[A-Za-z0-9%.:=@$-]{1,40}$/), fc.string({ unit: 'grapheme' }), (id, value) => {
        const command = parseDeviceTopic(commandTopic({ deviceId: id }, writePropertyBag([['k', value]])));
        expect(command).toEqual({ kind: 'command', deviceId: id, bag: new Map([['k', value.toWellFormed()]]) });
        expect(parseDeviceTopic(methodTopic(id, 'a1'))).toEqual({ kind: 'method', name: id, requestId: 'a1' });
      }),
    );
    expect(parseDeviceTopic(twinResponseTopic(204, 'a1', 7))).toEqual({
      kind: 'twin-response',
      requestId: 'a1',
      status: 204,
    });
    expect(parseDeviceTopic(desiredTopic(7))).toEqual({ kind: 'desired', version: 7 });
    expect(parsePublishTopic(twinGetTopic('a1'))).toEqual({ kind: 'twin-get', requestId: 'a1' });
    expect(parsePublishTopic(twinReportTopic('a1'))).toEqual({ kind: 'twin-report', requestId: 'a1' });
    expect(commandFilter('d1')).toBe('devices/d1/messages/devicebound/#');
    expect(parsePublishTopic(methodAnswerTopic(-5, 'a1'))).toEqual({
      kind: 'method-answer',
      requestId: 'a1',
      status: -5,
    });
  });

  it.each([
    '',
    'devices/d1/messages/events/',
    '$iothub/methods/POST/m/',
    '$iothub/methods/POST/m/?$rid=',
    '$iothub/twin/GET/?$rid=1',
    '$iothub/twin/PATCH/properties/desired/?$version=x',
  ])('is none: %j', (topic) => {
    expect(parseDeviceTopic(topic)).toBeUndefined();
  });
});
