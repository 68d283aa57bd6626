//! The slope of a noisy line (Theil 1950), and its interval (Sen 1968).

/// If the noise of the points is independent, nineteen of twenty intervals hold the slope.
const DEVIATIONS: f64 = 1.96;

/// Slopes, per unit of x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    pub least: f64,
    pub median: f64,
    pub most: f64,
}

/// The median of the slopes between all pairs of points, whose x rises; None if there are fewer than two points. The
/// interval follows from the variance of Kendall's rank correlation.
pub fn of(points: &[(f64, f64)]) -> Option<Slope> {
    let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
    for (at, (x, y)) in points.iter().enumerate() {
        slopes.extend(points.iter().skip(at + 1).map(|(later, higher)| (higher - y) / (later - x)));
    }
    slopes.sort_by(f64::total_cmp);
    let count = points.len() as f64;
    let spread = DEVIATIONS * (count * (count - 1.0) * (2.0 * count + 5.0) / 18.0).sqrt();
    let middle = slopes.len() as f64 / 2.0;
    // A place before the first becomes 0.
    let at = |place: f64| slopes.get(place as usize).or(slopes.last()).copied();
    Some(Slope { least: at(middle - spread / 2.0)?, median: at(middle)?, most: at(middle + spread / 2.0)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wild_point_of_nine_changes_no_slope_and_widens_its_interval() {
        let mut points: Vec<(f64, f64)> = (0..9).map(f64::from).map(|x| (x, 3.0 * x)).collect();
        assert_eq!(of(&points), Some(Slope { least: 3.0, median: 3.0, most: 3.0 }));
        points[4].1 = 500.0;
        let slope = of(&points).unwrap();
        assert_eq!(slope.median, 3.0);
        assert!(slope.least <= 3.0 && slope.most >= 3.0, "{slope:?}");
        assert_eq!(of(&points[..1]), None);
    }

    #[test]
    fn the_interval_of_noise_without_a_trend_holds_zero() {
        let noise = [0.3, -0.1, 0.2, -0.4, 0.1, 0.5, -0.3, 0.0, 0.2, -0.2, 0.4, -0.5];
        let points: Vec<(f64, f64)> = (0..).map(f64::from).zip(noise).collect();
        let slope = of(&points).unwrap();
        assert!(slope.least < 0.0 && slope.most > 0.0, "{slope:?}");
    }
}
