import { describe, expect, it } from 'vitest';
import type { StoredMessage } from '../../../../src/core/message.ts';
import { restamp } from '../../../../src/pipeline/restamp.ts';
import { message } from '../../../support/builders.ts';

const BODY = '{"time":"1970-01-01T00:00:00.000Z"}';
const time = { bootId: 'boot', clock: 'unknown', wallMs: 0, monotonicMs: 5000 } as const;

function stored(timeAt?: number): StoredMessage {
  const stamps = timeAt === undefined ? {} : { stamps: { timeAt } };
  return {
    offset: 1,
    seq: 1,
    epoch: 'abcd',
    messageId: 'abcd.meter-1.1',
    message: { ...message(), body: Buffer.from(BODY), time, ...stamps },
  };
}

const offset = (): number => 1_000_000;

describe('restamp', () => {
  it('gives what is not ours a time beside it', () => {
    const { message: outgoing } = restamp(stored(), offset);
    expect(outgoing.systemProperties.creationTimeUtc).toBe('1970-01-01T00:16:45.000Z');
    expect(Buffer.from(outgoing.body).toString()).toBe(BODY);
  });

  it('leaves what is not ours alone where nothing goes beside bodies', () => {
    const given = stored();
    expect(restamp(given, offset, true)).toBe(given);
  });

  it('corrects the time in a body of ours, whatever goes beside it', () => {
    for (const bodiesOnly of [false, true]) {
      const { message: outgoing } = restamp(stored(BODY.indexOf('1970')), offset, bodiesOnly);
      expect(Buffer.from(outgoing.body).toString()).toBe('{"time":"1970-01-01T00:16:45.000Z"}');
    }
  });
});
