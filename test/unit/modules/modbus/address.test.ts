import { describe, expect, it } from 'vitest';
import { parseRegister, registerText } from '../../../../modules/modbus/address.ts';

describe('parseRegister', () => {
  it.each([
    ['input:0', 'input', 0],
    ['holding:342', 'holding', 342],
    ['holding:0x156', 'holding', 342],
    ['Holding:0XFFFF', 'holding', 65_535],
    [' coil:3 ', 'coil', 3],
    ['discrete:65535', 'discrete', 65_535],
    ['00001', 'coil', 0],
    ['000001', 'coil', 0],
    ['065536', 'coil', 65_535],
    ['09999', 'coil', 9998],
    ['10001', 'discrete', 0],
    ['30001', 'input', 0],
    ['39999', 'input', 9998],
    ['300001', 'input', 0],
    ['40001', 'holding', 0],
    ['400001', 'holding', 0],
    ['465536', 'holding', 65_535],
    [40_343, 'holding', 342],
  ])('reads %s', (text, table, address) => {
    expect(parseRegister(text)).toEqual({ table, address });
  });

  it.each([
    '',
    'input',
    'input:',
    'input:-1',
    'input:65536',
    'input:0x10000',
    'input:1.5',
    'input: 1',
    'register:1',
    '40000',
    '400000',
    '465537',
    '499999',
    '20001',
    '50001',
    '4001',
    '4000001',
    '0x156',
    1,
    342,
    4.5,
  ])('refuses %s and says what is allowed', (text) => {
    expect(() => parseRegister(text)).toThrow(/is not a register.*holding:0x156.*40001/);
  });

  it('says why a register just outside is refused', () => {
    expect(() => parseRegister('input:65536')).toThrow(/end at 65535/);
    expect(() => parseRegister('40000')).toThrow(/count from 1/);
    expect(() => parseRegister('465537')).toThrow(/end at 465536/);
  });

  it('gives back the zero-based form', () => {
    expect(registerText(parseRegister('40343'))).toBe('holding:342');
  });
});
