import { beforeEach, describe, expect, it } from 'vitest';
import { AnswerOrder } from '../../../../modules/mqtt/answer-order.ts';
import { ConnectGate } from '../../../../modules/mqtt/connect-gate.ts';
import type { Connection } from '../../../../modules/mqtt/connection.ts';
import { Subscriptions } from '../../../../modules/mqtt/subscriptions.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const MOST = 4;

describe('at the limit of connections', () => {
  let clock: ManualClock;
  let gate: ConnectGate;
  let refusals: string[];
  let cut: Connection[];

  beforeEach(() => {
    clock = new ManualClock();
    refusals = [];
    cut = [];
    const refuse = (reason: string): void => void refusals.push(reason);
    gate = new ConnectGate({ clock, maxConnections: MOST, maxConnectsPerSec: 0, refuse });
  });

  const connect = (username?: string): Connection => {
    const connection: Connection = {
      remoteAddress: '10.0.0.9',
      destroy: () => void cut.push(connection),
      answers: new AnswerOrder(),
      subscriptions: new Subscriptions(),
      heardAtMs: clock.monotonicMs(),
      keepAliveSecs: 0,
      principal:
        username === undefined
          ? undefined
          : { username, mayPublishAs: () => true, mayCommand: () => true, everyDevice: true },
      lane: undefined,
    };
    return connection;
  };
  const enter = (username?: string): Connection => {
    const connection = connect(username);
    if (gate.admit(connection.remoteAddress)) gate.enter(connection);
    return connection;
  };
  const hear = (connection: Connection | undefined): void => {
    if (connection !== undefined) connection.heardAtMs = clock.monotonicMs();
  };

  it('cuts nobody who is alive for one more of the same user', () => {
    const site = Array.from({ length: MOST }, () => enter('site'));
    for (let minute = 0; minute < 10; minute += 1) {
      clock.advance(60_000);
      enter('site');
      enter('other');
      site.forEach(hear);
    }
    expect(cut).toEqual([]);
    expect(new Set(refusals)).toEqual(new Set(['too_many_connections']));
  });

  it('gives the place of the longest silent of the user who has more than half, not of the oldest', () => {
    const other = enter('other');
    const site = Array.from({ length: MOST - 1 }, () => enter('site'));
    clock.advance(10_000);
    hear(site[0]);
    hear(site[2]);
    clock.advance(590_000);
    enter('site');
    expect(refusals).toEqual(['too_many_connections']);
    clock.advance(1_000);
    enter('site');
    expect(cut).toEqual([site[1]]);
    expect(refusals).toEqual(['too_many_connections', 'connection_dropped']);
    clock.advance(610_000);
    hear(site[0]);
    enter('other');
    expect(cut).toEqual([site[1], site[2]]);
    expect(cut).not.toContain(other);
  });

  it('cuts nobody who has a keep-alive, however quiet: the broker ends it when that is over', () => {
    const site = Array.from({ length: MOST }, () => enter('site'));
    for (const connection of site) connection.keepAliveSecs = 65_535;
    clock.advance(3_600_000);
    enter('site');
    expect([cut, refusals]).toEqual([[], ['too_many_connections']]);
  });

  it('cuts nobody, silent or not, where no user has more than half', () => {
    for (const user of ['a', 'a', 'b', 'b']) enter(user);
    clock.advance(700_000);
    enter('a');
    expect([cut, refusals]).toEqual([[], ['too_many_connections']]);
  });

  it('gives the place of one that has not logged in, the oldest first, before any other', () => {
    const site = Array.from({ length: MOST - 2 }, () => enter('site'));
    const strangers = [enter(), enter()];
    clock.advance(700_000);
    site.forEach(hear);
    enter('site');
    enter('site');
    expect(cut).toEqual(strangers);
  });
});
