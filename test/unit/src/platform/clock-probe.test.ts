import { describe, expect, it } from 'vitest';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { probeSynchronised } from '../../../../src/platform/clock-probe.ts';

/** Programs that are there, and what they print; called: what was asked. */
function programs(outputs: Readonly<Record<string, string>>) {
  const called: string[] = [];
  return {
    called,
    run: (program: string, args: readonly string[]): Promise<string | undefined> => {
      const call = [program, ...args].join(' ');
      called.push(call);
      return Promise.resolve(outputs[call]);
    },
  };
}

const CHRONY = (leap: string): string =>
  `Reference ID    : C0A80001 (192.168.0.1)\nStratum         : 3\nLeap status     : ${leap}\n`;
const TIMEDATECTL = 'timedatectl show --property=NTPSynchronized --value';

describe('whether the clock is synchronised', () => {
  it.each<[string, Record<string, string>, boolean | undefined]>([
    ['chrony with a source', { 'chronyc -n tracking': CHRONY('Normal') }, true],
    ['chrony during a leap second', { 'chronyc -n tracking': CHRONY('Insert second') }, true],
    ['chrony without a source', { 'chronyc -n tracking': CHRONY('Not synchronised'), [TIMEDATECTL]: 'yes\n' }, false],
    ['the kernel, by timedatectl', { [TIMEDATECTL]: 'yes\n' }, true],
    ['the kernel, not', { [TIMEDATECTL]: 'no\n' }, false],
    ['an old timedatectl', { [TIMEDATECTL]: '\n' }, undefined],
    ['adjtimex', { 'adjtimex --print': '         mode: 0\n       status: 8193\n' }, true],
    ['adjtimex, not', { 'adjtimex --print': '       status: 64\n' }, false],
    ['BusyBox', { adjtimex: '    status:       0x2001 (PLL|NANO)\n' }, true],
    ['BusyBox, not', { adjtimex: '    status:       0x40 (UNSYNC)\n' }, false],
    ['nobody', {}, undefined],
  ])('%s', async (_, outputs, expected) => {
    expect(await probeSynchronised(programs(outputs).run)).toBe(expected);
  });

  it('takes a missing program for no answer', async () => {
    const { called, run } = programs({});
    await probeSynchronised(run);
    expect(called).toEqual(['chronyc -n tracking', TIMEDATECTL, 'adjtimex --print', 'adjtimex']);
  });

  it('really runs programs, and never throws', async () => {
    expect([true, false, undefined]).toContain(await probeSynchronised());
  });
});

describe('the system clock', () => {
  it('asks in the background, one question at a time, and believes the answer', async () => {
    let asked = 0;
    let answer: (isSynchronised: boolean) => void = () => {};
    const clock = new SystemClock({
      probe: () => {
        asked += 1;
        return new Promise((resolve) => {
          answer = resolve;
        });
      },
    });
    expect(clock.quality()).not.toBe('synced');
    clock.quality();
    expect(asked).toBe(1);
    const settling = clock.settling();
    answer(true);
    await settling;
    expect(clock.quality()).toBe('synced');
    expect(clock.settling()).toBeUndefined();
    expect(asked).toBe(1);
  });

  it('has nothing to wait for where nobody is asked', () => {
    expect(new SystemClock().settling()).toBeUndefined();
  });
});
