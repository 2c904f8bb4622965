//! Amounts with a suffix (`500m`, `1Gi`), as `resource.Quantity` reads and writes them.

/// What Go says of text that is no quantity at all.
pub(crate) const FORMAT_WRONG: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const TOO_LONG: &str = "more digits than are computed with";
const SUFFIX_WRONG: &str = "unable to parse quantity's suffix";

/// Digits that are computed with; longer amounts stay as they were written.
const MAX_DIGITS: usize = 27;

/// How an amount is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

/// An amount in billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Amount {
    nanos: i128,
    format: Format,
}

const NANO: i128 = 1_000_000_000;

/// The amount in its shortest form.
pub(crate) fn canonical(text: &str) -> Result<String, String> {
    let text = text.trim();
    match parse(text) {
        Ok(amount) => Ok(write(amount)),
        Err(why) if why == TOO_LONG => Ok(text.to_owned()),
        Err(why) => Err(why),
    }
}

/// The amount in billionths of one.
pub(crate) fn nanos(text: &str) -> Option<i128> {
    parse(text).ok().map(|amount| amount.nanos)
}

/// The sum of amounts, in the notation of the first that is not zero; `None` when one of them is no quantity or the sum is too large.
pub fn sum<'a>(amounts: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut total = Amount {
        nanos: 0,
        format: Format::Decimal,
    };
    for text in amounts {
        let amount = parse(text.trim()).ok()?;
        if total.nanos == 0 {
            total.format = amount.format;
        }
        total.nanos = total.nanos.checked_add(amount.nanos)?;
    }
    Some(write(total))
}

fn parse(text: &str) -> Result<Amount, String> {
    if text.is_empty() {
        return Err(FORMAT_WRONG.to_owned());
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let negative = text.starts_with('-');
    let digits_end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(digits_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let malformed =
        number.is_empty() || fraction.contains('.') || (whole.is_empty() && fraction.is_empty());
    if malformed
        || !suffix
            .chars()
            .all(|c| "eEinumkKMGTP+-0123456789".contains(c))
    {
        return Err(FORMAT_WRONG.to_owned());
    }
    let (base, power, format) = scale(suffix).ok_or_else(|| SUFFIX_WRONG.to_owned())?;
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    if whole.len() + fraction.len() > MAX_DIGITS {
        return Err(TOO_LONG.to_owned());
    }
    let mut mantissa: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        mantissa = mantissa * 10 + i128::from(digit - b'0');
    }
    let exponent = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    let nanos = scaled(mantissa, base, power, exponent);
    let nanos = if negative { -nanos } else { nanos };
    // A binary amount below one is written as decimal.
    let format = if format == Format::Binary && nanos.abs() < NANO {
        Format::Decimal
    } else {
        format
    };
    Ok(Amount { nanos, format })
}

/// `mantissa` · `base`^`power` / 10^`fraction` in billionths, rounded up, never beyond what fits.
fn scaled(mantissa: i128, base: i128, power: i32, fraction: i32) -> i128 {
    const MOST: i128 = (i64::MAX as i128) * NANO;
    let mut value = mantissa;
    let mut divisor: i128 = 1;
    let mut tens = 9 - fraction;
    if base == 10 {
        tens += power;
    } else {
        for _ in 0..power {
            value = value.saturating_mul(base);
        }
    }
    while tens > 0 && value != 0 && value < MOST {
        value = value.saturating_mul(10);
        tens -= 1;
    }
    while tens < 0 && divisor < i128::MAX / 10 {
        divisor *= 10;
        tens += 1;
    }
    let rounded = value / divisor + i128::from(value % divisor != 0);
    rounded.min(MOST)
}

fn scale(suffix: &str) -> Option<(i128, i32, Format)> {
    Some(match suffix {
        "" => (10, 0, Format::Decimal),
        "n" => (10, -9, Format::Decimal),
        "u" => (10, -6, Format::Decimal),
        "m" => (10, -3, Format::Decimal),
        "k" => (10, 3, Format::Decimal),
        "M" => (10, 6, Format::Decimal),
        "G" => (10, 9, Format::Decimal),
        "T" => (10, 12, Format::Decimal),
        "P" => (10, 15, Format::Decimal),
        "E" => (10, 18, Format::Decimal),
        "Ki" => (1024, 1, Format::Binary),
        "Mi" => (1024, 2, Format::Binary),
        "Gi" => (1024, 3, Format::Binary),
        "Ti" => (1024, 4, Format::Binary),
        "Pi" => (1024, 5, Format::Binary),
        "Ei" => (1024, 6, Format::Binary),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let power: i32 = exponent.parse().ok()?;
            (10, power.clamp(-100, 100), Format::Exponent)
        }
    })
}

fn write(amount: Amount) -> String {
    let Amount { nanos, format } = amount;
    if nanos == 0 {
        return "0".to_owned();
    }
    if format == Format::Binary && nanos % NANO == 0 {
        let mut value = nanos / NANO;
        let mut step = 0;
        while value % 1024 == 0 && step < 6 {
            value /= 1024;
            step += 1;
        }
        return format!("{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][step]);
    }
    let mut value = nanos;
    let mut step = 0;
    while value % 1000 == 0 && step < 9 {
        value /= 1000;
        step += 1;
    }
    let suffixes = match format {
        Format::Exponent => [
            "e-9", "e-6", "e-3", "", "e3", "e6", "e9", "e12", "e15", "e18",
        ],
        Format::Decimal | Format::Binary => ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"],
    };
    format!("{value}{}", suffixes[step])
}
