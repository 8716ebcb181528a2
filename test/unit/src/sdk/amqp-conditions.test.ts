import { describe, expect, it } from 'vitest';
import { amqpConditions, conditionText } from '../../../../src/sdk/amqp-conditions.ts';

const { answerResult, closedReason, linkEnd, refusedError } = amqpConditions({ peer: 'broker' });

describe('outcomes and conditions of AMQP', () => {
  it('puts what is rejected aside, but for what is no fault of the message', () => {
    const of = (condition?: string): unknown =>
      answerResult({ outcome: 'rejected', error: condition === undefined ? undefined : { condition } });
    expect(of()).toMatchObject({ status: 'rejected' });
    expect(of('amqp:decode-error')).toEqual({
      status: 'rejected',
      reason: 'The broker rejected the message (amqp:decode-error).',
    });
    expect(of('amqp:resource-limit-exceeded')).toMatchObject({ status: 'retry', kind: 'transient', blameless: true });
    expect(of('amqp:unauthorized-access')).toMatchObject({ status: 'retry', kind: 'unauthorized' });
    // What a condition says counts, never a text.
    expect(
      answerResult({ outcome: 'rejected', error: { condition: 'x:y', description: 'amqp:unauthorized-access' } }),
    ).toMatchObject({ status: 'rejected' });
  });

  it('tells faults of an address from those of a message', () => {
    expect(linkEnd('a', undefined)).toMatchObject({ kind: 'transient', isPlace: true, isSize: false });
    expect(linkEnd('a', { condition: 'amqp:not-found' })).toMatchObject({ kind: 'transient', isPlace: true });
    expect(linkEnd('a', { condition: 'amqp:unauthorized-access' })).toMatchObject({
      kind: 'unauthorized',
      isPlace: true,
    });
    expect(linkEnd('a', { condition: 'amqp:internal-error' })).toMatchObject({ kind: 'transient', isPlace: false });
    expect(linkEnd('a', { condition: 'amqp:link:message-size-exceeded' })).toMatchObject({
      isSize: true,
      isPlace: false,
    });
  });

  it('backs off from a connection that is refused', () => {
    expect(refusedError({ condition: 'amqp:unauthorized-access' }, 't')).toMatchObject({ code: 'GW_UNAUTHORIZED' });
    expect(refusedError({ condition: 'amqp:resource-limit-exceeded' }, 't')).toMatchObject({ code: 'GW_THROTTLED' });
    expect(refusedError({ condition: 'amqp:not-found' }, 't')).toMatchObject({ code: 'GW_PROTOCOL', kind: 'invalid' });
    expect(refusedError(undefined, 't')).toMatchObject({ code: 'GW_PROTOCOL', kind: 'transient' });
    expect(closedReason({ condition: 'amqp:connection:forced' }, 't').kind).toBe('transient');
  });

  it('shows what a peer says cut off and on one line', () => {
    const text = conditionText({ condition: 'a:b', description: `x\n\u001b[31m${'y'.repeat(1000)}` });
    expect(text).toHaveLength(300);
    expect(text).toMatch(/^a:b: x \[31my+$/);
  });
});
