import { expect, it } from 'vitest';
import { GatewayError } from '../../../../src/core/errors.ts';
import { readCommand } from '../../../../src/upstream/command-message.ts';

function read(command: string, text: string): unknown {
  const { parsed } = readCommand({ deviceId: 'plc', command, payload: Buffer.from(text) });
  return parsed instanceof GatewayError ? `${parsed.code}: ${parsed.message}` : parsed.command;
}

it('takes integers beyond 2^53-1 of a write as they stand in the text', () => {
  const text = '{"id":"1","values":{"big":9007199254740993,"low":-9223372036854775808,"one":1}}';
  expect(read('write', text)).toMatchObject({
    values: { big: 9_007_199_254_740_993n, low: -9_223_372_036_854_775_808n, one: 1 },
  });
});

it('refuses what no point can hold exactly', () => {
  expect(read('write', '{"id":"1","values":{"big":99999999999999999999}}')).toMatch(
    /^GW_MESSAGE_INVALID: .*values\.big must be a number/,
  );
});

it('hands JSON to actions, without integers that its readers would round', () => {
  expect(read('reset', '{"id":"1","payload":{"a":[1.5,"x",null]}}')).toMatchObject({
    payload: { a: [1.5, 'x', null] },
  });
  for (const integer of ['9007199254740993', '99999999999999999999']) {
    expect(read('reset', `{"id":"1","payload":{"a":[${integer}]}}`)).toMatch(/GW_MESSAGE_INVALID: .*beyond 2\^53-1/);
  }
});
