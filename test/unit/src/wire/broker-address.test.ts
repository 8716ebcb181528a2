import { describe, expect, it } from 'vitest';
import { brokerAddress, brokerClientFaults } from '../../../../src/wire/broker-address.ts';

const PEM = '-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----';

describe('the address of a broker', () => {
  it.each([
    ['mqtt://a', { host: 'a', port: 1883, secure: false, target: 'mqtt://a:1883' }],
    ['mqtts://a', { host: 'a', port: 8883, secure: true, target: 'mqtts://a:8883' }],
    ['amqp://[::1]:7', { host: '::1', port: 7, secure: false, target: 'amqp://[::1]:7' }],
    ['amqps://a', { host: 'a', port: 5671, secure: true, target: 'amqps://a:5671' }],
    ['ws://a', { host: 'a', port: 80, secure: false, webSocket: { path: '/', host: 'a' }, target: 'ws://a:80' }],
    [
      'wss://[::1]:80/',
      { host: '::1', port: 80, secure: true, webSocket: { path: '/', host: '[::1]:80' }, target: 'wss://[::1]:80' },
    ],
    [
      'wss://a/mqtt?q=1',
      { host: 'a', port: 443, secure: true, webSocket: { path: '/mqtt?q=1', host: 'a' }, target: 'wss://a:443' },
    ],
    ['amqpws://a', { port: 80, secure: false, webSocket: { path: '/' } }],
    ['amqpwss://a/amqp?x=1', { port: 443, secure: true, webSocket: { path: '/amqp?x=1', host: 'a' } }],
  ])('of %s', (url, expected) => {
    expect(brokerAddress(url)).toMatchObject(expected);
  });
});

describe('a client of a broker', () => {
  it.each([
    ['amqp://127.0.0.1', {}, []],
    ['amqps://a', { certificate: PEM, key: PEM }, []],
    [
      'amqp://a',
      {},
      ['url: sends credentials and data in clear to a; use amqps:// or wss://, or set `allow_plaintext: true`'],
    ],
    ['amqp://a', { allow_plaintext: true }, []],
    ['amqp://127.0.0.1', { ca: PEM }, ['ca: has no effect without amqps:// or wss://']],
    [
      'amqps://u:p@a/x',
      {},
      [
        'url: must not hold credentials; use `username` and `password`',
        'url: has a path, which only ws:// and wss:// may have; the hint',
      ],
    ],
    ['amqps://a', { key: PEM }, ['key: needs `certificate` as well']],
    [
      'amqps://a',
      { proxy: { url: 'http://u@p' } },
      ['proxy.url: must not hold credentials; use `username` and `password`'],
    ],
  ])('at %s with %j', (url, more, expected) => {
    const faults = brokerClientFaults({ url, allow_plaintext: false, ...more }, 'amqps', 'the hint');
    expect(faults.map(({ path, message }) => `${path.join('.')}: ${message}`)).toEqual(expected);
  });
});
