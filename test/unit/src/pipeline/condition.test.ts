import { describe, expect, it } from 'vitest';
import { checkCondition, compileCondition } from '../../../../src/pipeline/condition.ts';
import { message } from '../../../support/builders.ts';

const alarm = message({
  device: 'pump-3',
  properties: { level: 'alarm', Count: '7', flag: 'true', 'x-y': 'z', quote: "it's" },
  systemProperties: { contentType: 'application/json', messageId: 'm1' },
});

describe('condition', () => {
  it.each([
    ["level = 'alarm'", true],
    ['level = "alarm"', true],
    ["LEVEL = 'alarm'", true],
    ["level = 'Alarm'", false],
    ["level != 'warn'", true],
    ["level <> 'alarm'", false],
    ["quote = 'it''s'", true],
    ["x-y = 'z'", true],
    ['true', true],
    ['FALSE', false],
    ["$contentType = 'application/json'", true],
    ["$connectionDeviceId = 'pump-3'", true],
    ["$level = 'alarm'", true],
    // A property is a string: a number never equals it, AS_NUMBER makes it one.
    ['count = 7', false],
    ['AS_NUMBER(count) >= 7', true],
    ['as_number(count) < 7.5e0', true],
    ['AS_NUMBER(count) > -8', true],
    ['AS_NUMBER(level) > 0', false],
    // Undefined counts as false, with NOT as well.
    ["missing = 'a'", false],
    ["missing != 'a'", false],
    ["NOT (missing = 'a')", false],
    ['NOT missing', false],
    ['IS_DEFINED(missing)', false],
    ['NOT IS_DEFINED(missing)', true],
    // Precedence: NOT binds closer than AND, AND closer than OR.
    ["level = 'alarm' OR level = 'x' AND level = 'y'", true],
    ["(level = 'alarm' OR level = 'x') AND level = 'y'", false],
    ["NOT level = 'x' AND level = 'alarm'", true],
    ["level IN ['warn', 'alarm']", true],
    ["level IN ['warn']", false],
    ["STARTS_WITH(level, 'al') AND ENDS_WITH(level, 'rm') AND CONTAINS(level, 'lar')", true],
    ["UPPER(level) = 'ALARM' AND LENGTH(level) = 5", true],
    ['level', false],
    // Names that every object of the language has are names like any other.
    ["$__proto__ = 'x'", false],
    ['IS_DEFINED($constructor)', false],
    ['IS_DEFINED($__proto__)', false],
    ['IS_DEFINED(constructor)', false],
    ['IS_DEFINED(__proto__)', false],
    ["toString = 'x' OR level = 'alarm'", true],
  ])('%s is %s', (text, expected) => {
    expect(compileCondition(text)(alarm)).toBe(expected);
  });

  it.each([
    ["level = 'alarm", /character 9/],
    ['level = ', /ends too early \(character 9\)/],
    ["level == 'a'", /"=" cannot stand here \(character 8\)/],
    ["(level = 'a'", /"\)" is missing/],
    ["level = 'a' level", /"level" cannot stand here \(character 13\)/],
    ['', /ends too early/],
    ['FOO(level)', /not a function; there are AS_NUMBER/],
    ['LENGTH()', /takes 1 arguments, not 0/],
    ['$body.temperature > 5', /not bodies or twins/],
    ["$twin.tags.a = 'b'", /not bodies or twins/],
    ['AND', /cannot stand here/],
    ['x'.repeat(5000), /at most 4096/],
  ])('refuses %s', (text, fault) => {
    expect(checkCondition(text)).toMatch(fault);
  });

  it('accepts what it compiles', () => {
    expect(checkCondition("level = 'alarm'")).toBeUndefined();
  });
});
